"""What the engine tells of a run's calls: how many, what became of them, and what they took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Figures:
    """``calls`` were wanted, corrections included; of these ``from_store`` were answered before (or for another row at
    the same time), ``answered`` by a server now. ``failed`` by class are those that no value came of. ``requests`` were sent, retries included. ``cost`` is None where no price is known.

    Tokens and cost are those paid for in this run. ``concurrency`` is the number of requests at once, at the most.
    """

    calls: int = 0
    answered: int = 0
    from_store: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    currency: str = "USD"
    seconds: float = 0.0
    concurrency: int = 0

    def as_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return asdict(self) | {"failed": dict(self.failed)}
