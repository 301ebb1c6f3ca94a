"""What every command hands back: the counts that its summary, its manifest and a pipeline's table are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """The result of one command. ``rows_in == rows_out + sum(rejected.values())`` for commands that pass rows on."""

    command: str
    rows_in: int = 0
    rows_out: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    outputs: tuple[Path, ...] = ()
    rejects_file: Path | None = None
    seconds: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)
    exit_code: int = 0

    @property
    def num_rejected(self) -> int:
        return sum(self.rejected.values())

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {
            "command": self.command,
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "rejected": self.rejected,
            "outputs": [str(p) for p in self.outputs],
            "rejects_file": str(self.rejects_file) if self.rejects_file else None,
            "seconds": round(self.seconds, 3),
            **self.details,
        }
