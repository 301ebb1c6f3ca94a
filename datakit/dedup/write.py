"""Rows that stay to the output as they are, dropped ones aside with the row kept in their place, bad ones to the rejects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datakit.dedup.drops import EXACT, NEAR, Drop
from datakit.dedup.judge import Judge
from datakit.dedup.look import Batch
from datakit.together import Together
from datakit.values import encode_row
from datakit.write import Sink

EXACT_REASON = "exact duplicate"
NEAR_REASON = "near duplicate"
OVERLAP_REASON = "overlaps the evaluation set"
SIMILARITY_DIGITS = 6


@dataclass(frozen=True)
class Writer:
    """Writes batches; ``aside`` names the file for dropped rows (None: they are only counted)."""

    sink: Sink
    files: Together
    aside: str | None
    judge: Judge
    field: str  # what dropped rows are equal or near in; empty is the row as a whole

    def write(self, batch: Batch, drops: Mapping[int, Drop], first: int) -> None:
        """The rows of one batch, of which the first is number ``first`` of all; ``drops`` by this number."""
        self.sink.ledger.read(batch.file, len(batch))
        stay: list[bytes] = []
        changes: Counter[str] = Counter()
        for row, line in enumerate(batch.lines):
            if row in batch.bad:
                self.sink.reject(*batch.bad[row])
            elif (drop := drops.get(first + row)) is not None:
                self._drop(batch, row, drop)
            else:
                stay.append(line)
                if row in batch.changes:
                    changes.update(batch.changes[row])
        if stay:
            self.sink.accept_lines(b"\n".join(stay) + b"\n", len(stay), changes)

    def _drop(self, batch: Batch, row: int, drop: Drop) -> None:
        file, number = self.judge.where(drop)
        reason = _reason(drop, file if self.judge.is_other(drop) else None)
        self.sink.ledger.filtered[reason] += 1
        if self.aside is None:
            return
        told: dict[str, Any] = {
            "file": batch.file,
            "row": batch.numbers[row],
            "field": self.field,
            "reason": reason,
            "raw": batch.lines[row].decode(),
            "kept": {"file": file, "row": number},
            "similarity": round(drop.similarity, SIMILARITY_DIGITS),
        }
        self.files.open(self.aside).write(encode_row(told, Counter()) + b"\n")


def _reason(drop: Drop, other: str | None) -> str:
    if drop.why == EXACT:
        return EXACT_REASON if other is None else f"in {other}"
    if drop.why == NEAR:
        return NEAR_REASON if other is None else f"near a row in {other}"
    return OVERLAP_REASON
