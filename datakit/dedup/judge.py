"""Which rows are duplicates of others, or overlap an evaluation set, batch by batch in the order of rows."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from datakit.dedup.drops import EXACT, NEAR, OVERLAP, Drop, Drops
from datakit.dedup.look import Batch
from datakit.dedup.near import NearNotes
from datakit.dedup.normal import KEY_BYTES
from datakit.dedup.overlap import EvaluationSet
from datakit.dedup.places import Places
from datakit.dedup.table import KeyTable


@dataclass
class Judge:
    """All rows compared so far: those of other files first, which all stay, then the sources'.

    Exact duplicates are told at once, near ones by ``near_drops`` when all rows were seen.
    """

    table: KeyTable | None
    near: NearNotes | None
    evaluation: EvaluationSet | None
    evaluation_places: Places = field(default_factory=Places)
    places: Places = field(default_factory=Places)
    num_others: int = 0  # places below belong to other files
    num_without: int = 0  # rows of the sources in which there is nothing to compare
    _num_seen: int = 0  # rows of the sources
    _rows: array[int] = field(default_factory=lambda: array("Q"))  # of each place of the sources: which row it is

    def learn_evaluation(self, batch: Batch) -> None:
        """Rows of the evaluation set; call before any others."""
        assert self.evaluation is not None
        assert batch.texts is not None
        self.evaluation_places.add(batch.file, batch.numbers)
        self.evaluation.add(batch.texts, len(batch))
        self.evaluation.num_empty -= len(batch.bad)  # which are told by themselves

    def learn_others(self, batch: Batch) -> None:
        """Rows of files that the sources are compared against."""
        rows = self._comparable(batch)
        self._compare(batch, rows, self.places.add(batch.file, [batch.numbers[row] for row in rows]))
        self.num_others = self.places.count

    def judge(self, batch: Batch) -> list[Drop]:
        """The rows of the sources that are dropped at once."""
        first = self._num_seen
        self._num_seen += len(batch)
        drops: list[Drop] = []
        if self.evaluation is not None and batch.texts is not None:
            found = self.evaluation.overlaps(batch.texts)
            drops = [Drop(first + row, OVERLAP, overlap.place, overlap.share) for row, overlap in found.items()]
        rows = self._comparable(batch)
        self.num_without += len(batch) - len(batch.bad) - len(rows)
        if drops:
            dropped = {drop.at - first for drop in drops}
            rows = [row for row in rows if row not in dropped]
        place = self.places.add(batch.file, [batch.numbers[row] for row in rows])
        if self.near is not None:
            self._rows.extend([first + row for row in rows])
        drops += [Drop(first + row, EXACT, kept, 1.0) for row, kept in self._compare(batch, rows, place)]
        return sorted(drops, key=lambda drop: drop.at)

    def near_drops(self) -> Iterator[Drop]:
        """The rows of the sources that are near to a row that stays, in order; when all rows were seen."""
        if self.near is None:
            return
        for pair in self.near.decide(self.num_others):
            yield Drop(self._rows[pair.dropped - self.num_others], NEAR, pair.kept, pair.similarity)

    def settled(self, drop: Drop, near: Drops) -> Drop:
        """``drop`` with a row in its place that stays: what equals a row that is dropped as near is as near as that."""
        if drop.why != EXACT or drop.kept < self.num_others or not self._rows:
            return drop
        kept = near.of(self._rows[drop.kept - self.num_others])
        return drop if kept is None else replace(kept, at=drop.at)

    def where(self, drop: Drop) -> tuple[str, int]:
        """File and number of the row that stays."""
        return (self.evaluation_places if drop.why == OVERLAP else self.places).where(drop.kept)

    def is_other(self, drop: Drop) -> bool:
        """Whether the row that stays is one of another file."""
        return drop.why != OVERLAP and drop.kept < self.num_others

    def _comparable(self, batch: Batch) -> list[int]:
        """The rows (by index) that have a key or an n-gram."""
        import numpy as np

        has_words = np.zeros(len(batch), bool)
        if batch.shingles is not None:
            has_words |= batch.shingles.counts > 0
        if batch.texts is not None:
            has_words[batch.texts.rows[batch.texts.lengths > 0]] = True
        if not batch.keys:
            return [row for row in np.flatnonzero(has_words).tolist() if row not in batch.bad]
        return [row for row, key in enumerate(batch.keys) if key is not None or has_words[row]]

    def _compare(self, batch: Batch, rows: Sequence[int], place: int) -> list[tuple[int, int]]:
        """Enter rows (by index) at places from ``place`` on; those that equal an earlier one, with the place of that."""
        import numpy as np

        equal: list[tuple[int, int]] = []
        indexes, at = np.asarray(rows, np.int64), np.arange(place, place + len(rows))
        new = np.ones(len(rows), bool)
        if self.table is not None and rows:
            keys = [batch.keys[row] for row in rows]
            with_key = np.fromiter((key is not None for key in keys), bool, len(keys))
            joined = np.frombuffer(b"".join(filter(None, keys)), np.uint64).reshape(-1, KEY_BYTES // 8)
            kept = at.copy()
            kept[with_key] = self.table.first_places(joined, at[with_key])
            new = kept == at
            equal = list(zip(indexes[~new].tolist(), kept[~new].tolist(), strict=True))
        if self.near is not None and batch.shingles is not None and batch.bands is not None:
            left = new & (batch.shingles.counts[indexes] > 0)
            if left.any():
                chosen = indexes[left]
                self.near.add(at[left].tolist(), batch.shingles.only(chosen), batch.bands[:, chosen])
        return equal
