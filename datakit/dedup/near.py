"""Near duplicates: rows whose sets of n-grams overlap by a threshold, found by MinHash and confirmed exactly."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from datakit.dedup.bands import Bands
from datakit.dedup.buckets import make_buckets
from datakit.dedup.spool import Spool, jaccard

if TYPE_CHECKING:
    import numpy as np

    from datakit.dedup.tokens import Grams

MOST_COMPARED = 128  # rows that one row is compared with exactly


@dataclass(frozen=True, slots=True)
class NearPair:
    """The row ``dropped`` is near to the row ``kept``, which stays; both as places."""

    dropped: int
    kept: int
    similarity: float


@dataclass
class NearNotes:
    """What the first reading keeps of rows for finding near ones: keys of bands in memory, n-grams on disk."""

    threshold: float
    bands: Bands
    spool: Spool
    places: array[int] = field(default_factory=lambda: array("Q"))  # of each row that has any n-gram
    num_hurried: int = 0  # rows that had more candidates than are compared
    _keys: list[list[np.ndarray]] = field(default_factory=list)
    _num_key_bytes: int = 0

    def add(self, places: Sequence[int], shingles: Grams, keys: np.ndarray) -> None:
        """Take note of rows: their places, which grow, the n-grams of each, and the keys of their bands [bands, rows].

        Each row has an n-gram.
        """
        self.places.extend(places)
        self.spool.add(shingles)
        if not self._keys:
            self._keys = [[] for _ in range(self.bands.count)]
        for pieces, band in zip(self._keys, keys, strict=True):
            pieces.append(band)
        self._num_key_bytes = self.bands.count * len(self.places) * 8

    @property
    def num_bytes(self) -> int:
        """Held in memory for all rows: keys of bands, places, and where the n-grams of each lie."""
        return self._num_key_bytes + (len(self.places) + len(self.spool)) * self.places.itemsize

    def decide(self, num_kept: int) -> Iterator[NearPair]:
        """In order, each row that is near to an earlier one that stays; the first ``num_kept`` places all stay.

        Of the earlier rows that share a band, those that share most are compared first, and the first one that
        reaches the threshold is named.
        """
        if not self.places:
            return
        self.spool.flush()
        buckets = make_buckets(self._keys, len(self.places))
        for row, place in enumerate(self.places):
            if buckets.starts[row] == buckets.starts[row + 1]:
                continue
            pair = None
            if place >= num_kept:
                candidates, passed_over = buckets.candidates(row)
                likely = sorted(candidates, key=lambda other: (-candidates[other], other))
                pair = self._first_near(row, likely[:MOST_COMPARED])
                self.num_hurried += pair is None and (passed_over or len(likely) > MOST_COMPARED)
            if pair is None:
                buckets.keep(row)
            else:
                yield pair

    def _first_near(self, row: int, others: Sequence[int]) -> NearPair | None:
        own = self.spool.of(row) if others else None
        for other in others:
            similarity = jaccard(own, self.spool.of(other))  # type: ignore[arg-type]
            if similarity >= self.threshold:
                return NearPair(self.places[row], self.places[other], similarity)
        return None
