"""Which answers of a store a command is about: by model, by time, by whether they are refusals."""

from __future__ import annotations

import re
import sqlite3
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from datakit.augment.store.layout import FIRST_REFUSAL
from registry.errors import UsageError, did_you_mean

UNIT_S = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([mhdw])")


@dataclass(frozen=True, slots=True)
class Choice:
    """What must hold of an answer; None and False leave it open. Times are in seconds since 1970."""

    model: str | None = None
    since: float | None = None
    before: float | None = None
    refused: bool = False

    def sql(self) -> tuple[str, list[str | float]]:
        """The condition, and the values for its question marks."""
        parts: list[str] = []
        values: list[str | float] = []
        for part, value in (("model = ?", self.model), ("created >= ?", self.since), ("created < ?", self.before)):
            if value is not None:
                parts.append(part)
                values.append(value)
        if self.refused:
            parts.append(f"status >= {FIRST_REFUSAL}")
        return " AND ".join(parts) or "TRUE", values

    def check(self, connection: sqlite3.Connection, path: Path) -> None:
        """Raise ``UsageError`` where the store holds nothing of the model."""
        if self.model is None:
            return
        known = [name for (name,) in connection.execute("SELECT DISTINCT model FROM answers ORDER BY model")]
        if self.model not in known:
            listed = f"It holds answers of: {', '.join(known)}." if known else "It is empty."
            mend = " ".join(filter(None, (listed, did_you_mean(self.model, known))))
            raise UsageError(f'no answer of the model "{self.model}" is in it', where=str(path), mend=mend)


def moment(text: str, option: str, *, now: float | None = None) -> float:
    """``30d``, ``12h``, ``2w``, ``90m`` before now, or a date and time (ISO 8601, local unless it says otherwise), in
    seconds since 1970. Raises ``UsageError``."""
    span = _SPAN.fullmatch(text.strip())
    if span:
        return (time.time() if now is None else now) - float(span[1]) * UNIT_S[span[2]]
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f'{option} "{text}" is neither a span of time nor a date',
            mend="Spell it as 30d, 12h, 2w, 90m, or as 2026-03-01 or 2026-03-01T18:30.",
        ) from None
