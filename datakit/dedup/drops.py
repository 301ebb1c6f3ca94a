"""Which rows are dropped, for what, and which row stays in the place of each."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

# Why a row is dropped; by this, ``kept`` counts among the rows compared or among the evaluation rows.
EXACT, NEAR, OVERLAP = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Drop:
    """The row ``at`` (0, 1, … among all rows read) is dropped for the row at the place ``kept``."""

    at: int
    why: int
    kept: int
    similarity: float


@dataclass
class Drops:
    """Drops in order of rows, 25 bytes each."""

    _at: array[int] = field(default_factory=lambda: array("Q"))
    _why: array[int] = field(default_factory=lambda: array("B"))
    _kept: array[int] = field(default_factory=lambda: array("Q"))
    _similarity: array[float] = field(default_factory=lambda: array("d"))

    def extend(self, drops: Iterable[Drop]) -> None:
        """Put drops behind those that are there."""
        for drop in drops:
            self._at.append(drop.at)
            self._why.append(drop.why)
            self._kept.append(drop.kept)
            self._similarity.append(drop.similarity)

    def of(self, at: int) -> Drop | None:
        """The drop of the row ``at``, if it is one."""
        place = bisect_left(self._at, at)
        if place == len(self._at) or self._at[place] != at:
            return None
        return Drop(at, self._why[place], self._kept[place], self._similarity[place])

    def __len__(self) -> int:
        return len(self._at)

    def __iter__(self) -> Iterator[Drop]:
        for at, why, kept, similarity in zip(self._at, self._why, self._kept, self._similarity, strict=True):
            yield Drop(at, why, kept, similarity)


def merged(one: Iterable[Drop], other: Iterable[Drop]) -> Iterator[Drop]:
    """Two series of drops as one, in order of rows."""
    from heapq import merge

    return merge(one, other, key=lambda drop: drop.at)
