"""Which rows share a band with which: buckets of rows with one key, where there is more than one row."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

MOST_OF_BUCKET = 32  # rows of one bucket that a row is compared with at most: half the first, half the last ones


@dataclass
class Buckets:
    """Per row the buckets that it lies in, and per bucket those of its rows that stay, as this is decided."""

    starts: np.ndarray  # of each row in ``buckets``
    buckets: array[int]  # of all rows, row after row
    _first: array[int]  # of each bucket in ``_members``
    _count: array[int]  # members so far
    _members: array[int]

    def candidates(self, row: int) -> tuple[Counter[int], bool]:
        """Rows that share bands with ``row``, each with the number of bands, and whether some were passed over."""
        found: Counter[int] = Counter()
        passed_over = False
        half = MOST_OF_BUCKET // 2
        for bucket in self._of(row):
            start, count = self._first[bucket], self._count[bucket]
            if count <= MOST_OF_BUCKET:
                found.update(self._members[start : start + count])
                continue
            found.update(self._members[start : start + half])
            found.update(self._members[start + count - half : start + count])
            passed_over = True
        return found, passed_over

    def keep(self, row: int) -> None:
        """Later rows are compared with ``row`` from now on."""
        for bucket in self._of(row):
            self._members[self._first[bucket] + self._count[bucket]] = row
            self._count[bucket] += 1

    def _of(self, row: int) -> array[int]:
        return self.buckets[int(self.starts[row]) : int(self.starts[row + 1])]


def make_buckets(keys: list[list[np.ndarray]], num_rows: int) -> Buckets:
    """The buckets of rows, given for each band the keys of all rows, in pieces. ``keys`` is emptied on the way."""
    import numpy as np

    rows_found: list[np.ndarray] = []
    buckets_found: list[np.ndarray] = []
    sizes_found: list[np.ndarray] = []
    num_buckets = 0
    while keys:
        pieces = keys.pop()
        band = np.concatenate(pieces) if pieces else np.empty(0, np.uint64)
        pieces.clear()
        rows, sizes = _shared(band)
        rows_found.append(rows)
        buckets_found.append(np.repeat(np.arange(num_buckets, num_buckets + len(sizes), dtype=np.uint32), sizes))
        sizes_found.append(sizes)
        num_buckets += len(sizes)
    all_rows, all_buckets, sizes = map(np.concatenate, (rows_found, buckets_found, sizes_found))
    del rows_found, buckets_found
    starts = np.zeros(num_rows + 1, np.int64)
    np.cumsum(np.bincount(all_rows, minlength=num_rows), out=starts[1:])
    by_row = all_buckets[np.argsort(all_rows, kind="stable")]
    first = np.zeros(len(sizes), np.uint64)
    np.cumsum(sizes[:-1], out=first[1:])
    return Buckets(
        starts,
        _array("I", by_row),
        _array("Q", first),
        _array("I", np.zeros(len(sizes), np.uint32)),
        _array("I", np.zeros(len(all_rows), np.uint32)),
    )


def _shared(band: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows whose key another row has too, bucket by bucket, and the size of each bucket."""
    import numpy as np

    order = np.argsort(band, kind="stable").astype(np.uint32)
    in_order = band[order]
    new = np.flatnonzero(np.concatenate([[True], in_order[1:] != in_order[:-1]])) if len(band) else np.empty(0, int)
    sizes = np.diff(np.append(new, len(band)))
    shared = sizes > 1
    return order[np.repeat(shared, sizes)], sizes[shared]


def _array(code: str, values: np.ndarray) -> array[int]:
    """``values`` as an array of the standard library, whose single items are read ten times as fast."""
    found = array(code)
    found.frombytes(values.tobytes())
    return found
