"""Decontamination: rows that share n-grams with an evaluation set, and with which of its rows, by how much."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from datakit.dedup.grams import TextGrams

ANY = "any"
_SIEVE_BITS = 5  # the sieve has 2**5 places for each n-gram at least, so that 3 % of foreign n-grams pass


@dataclass(frozen=True, slots=True)
class Overlap:
    """A row shares ``share`` of the different n-grams of the evaluation row ``place``."""

    place: int
    share: float


@dataclass
class EvaluationSet:
    """The n-grams of evaluation rows. 16 bytes an n-gram as rows come, 130 while they end, then 50 to 80.

    A row has the n-grams of those of its texts that are long enough. Where none is, its longest text counts as one
    n-gram, which only a whole text can share: an answer of one word says nothing about who has seen the question.
    """

    size: int  # tokens in an n-gram
    least: float | None  # of the n-grams of an evaluation row, from which on it is an overlap; None: a single one
    num_rows: int = 0
    num_whole: int = 0  # rows compared by their longest text
    num_empty: int = 0  # rows without a word
    _found: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    _index: _Index | None = None

    def add(self, texts: TextGrams, num_rows: int) -> None:
        """Put ``num_rows`` rows behind those that are there."""
        import numpy as np

        longest = np.zeros(num_rows, np.int64)
        np.maximum.at(longest, texts.rows, texts.lengths)
        counts = texts.lengths >= np.minimum(longest, self.size)[texts.rows]  # the long ones; else the longest
        self.num_empty += int((longest == 0).sum())
        self.num_whole += int(((longest > 0) & (longest < self.size)).sum())
        numbers = texts.grams.counts
        wanted = np.repeat(counts, numbers)
        owners = np.repeat(texts.rows + self.num_rows, numbers)
        self._found.append((texts.grams.hashes[wanted], owners[wanted]))
        self.num_rows += num_rows

    def close(self) -> None:
        """No more rows come."""
        self._index = _index_of(self._found, self.num_rows)
        self._found = []

    @property
    def num_grams(self) -> int:
        """Different n-grams in all rows together."""
        return len(self._index.grams) if self._index is not None else 0

    def overlaps(self, texts: TextGrams) -> dict[int, Overlap]:
        """For those of other rows that overlap, the evaluation row that they overlap most, the first of equals."""
        import numpy as np

        index = self._index
        assert index is not None
        hashes = texts.grams.hashes
        at = np.flatnonzero(index.sieve[hashes >> index.shift])
        places = np.searchsorted(index.grams, hashes[at])
        places[places == len(index.grams)] = 0
        hit = index.grams[places] == hashes[at] if len(index.grams) else np.zeros(0, bool)
        shared: dict[int, set[int]] = {}
        texts_hit = np.searchsorted(texts.grams.starts, at[hit], side="right") - 1
        for row, place in zip(texts.rows[texts_hit].tolist(), places[hit].tolist(), strict=True):
            shared.setdefault(row, set()).add(place)
        most = {row: self._most(index, those) for row, those in shared.items()}
        return {row: overlap for row, overlap in most.items() if overlap is not None}

    def _most(self, index: _Index, places: set[int]) -> Overlap | None:
        counts = Counter(
            owner for place in places for owner in index.owners[index.starts[place] : index.starts[place + 1]].tolist()
        )
        share, row = max((count / int(index.sizes[row]), -row) for row, count in counts.items())
        return Overlap(-row, share) if self.least is None or share >= self.least else None


@dataclass(frozen=True, slots=True)
class _Index:
    """Different n-grams in order, the rows that hold each (``owners[starts[i]:starts[i + 1]]``), and how many a row has."""

    grams: np.ndarray
    starts: np.ndarray
    owners: np.ndarray
    sizes: np.ndarray
    sieve: np.ndarray  # by the upper bits of an n-gram, whether there is any such
    shift: np.uint64


def _index_of(found: list[tuple[np.ndarray, np.ndarray]], num_rows: int) -> _Index:
    import numpy as np

    grams = np.concatenate([np.empty(0, np.uint64), *(hashes for hashes, _ in found)])
    owners = np.concatenate([np.empty(0, np.int64), *(rows for _, rows in found)])
    order = np.lexsort((owners, grams))
    grams, owners = grams[order], owners[order]
    if len(grams):
        first = np.concatenate([[True], (grams[1:] != grams[:-1]) | (owners[1:] != owners[:-1])])
        grams, owners = grams[first], owners[first]
    different, starts = np.unique(grams, return_index=True)
    bits = max(len(different).bit_length() + _SIEVE_BITS, 16)
    shift = np.uint64(64 - bits)
    sieve = np.zeros(1 << bits, bool)
    sieve[different >> shift] = True
    sizes = np.bincount(owners, minlength=num_rows)
    return _Index(different, np.append(starts, len(grams)), owners.astype(np.uint32), sizes, sieve, shift)
