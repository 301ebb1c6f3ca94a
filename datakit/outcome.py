"""What every command hands back: the counts that its summary, its manifest and a pipeline's table are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """The result of one command.

    For commands that pass rows on, ``rows_in + rows_added == rows_out + the sums of rejected and filtered``.
    """

    command: str
    rows_in: int = 0
    rows_out: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    outputs: tuple[Path | str, ...] = ()  # an address comes as text
    rejects_file: Path | str | None = None
    seconds: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)
    exit_code: int = 0
    filtered: dict[str, int] = field(default_factory=dict)  # by the option that left them out
    rows_added: int = 0  # one row may make several

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
            "filtered": self.filtered,
            "rows_added": self.rows_added,
            "outputs": [_as_text(p) for p in self.outputs],
            "rejects_file": _as_text(self.rejects_file) if self.rejects_file else None,
            "seconds": round(self.seconds, 3),
            **self.details,
        }


def _as_text(path: Path | str) -> str:
    """A path as JSON can hold it: what in it is no UTF-8 is U+FFFD."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
