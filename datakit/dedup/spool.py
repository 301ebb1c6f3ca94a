"""N-grams of rows in an unnamed temporary file, to be compared exactly when two rows may be near."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from registry.errors import from_os_error

if TYPE_CHECKING:
    import numpy as np

    from datakit.dedup.tokens import Grams

KEPT_BYTES = 128 << 20  # of n-grams that stay in memory
HASH_BYTES = 8


class Spool:
    """8 bytes an n-gram on disk, 8 bytes a row in memory."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle
        self._ends = array("Q", [0])  # in n-grams
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()  # the least recently used first
        self._kept_bytes = 0

    def __len__(self) -> int:
        return len(self._ends) - 1

    @property
    def num_bytes(self) -> int:
        """On disk."""
        return self._ends[-1] * HASH_BYTES

    def add(self, grams: Grams) -> None:
        """Put the n-grams of more rows behind those that are there. Raises ``StoppedError`` where the disk is full."""
        last = self._ends[-1]
        self._ends.extend((grams.starts[1:] + last).tolist())
        try:
            self._handle.write(grams.hashes.tobytes())
        except OSError as error:
            raise from_os_error(error, "keeping n-grams in a temporary file") from error

    def flush(self) -> None:
        """Make all of it readable."""
        try:
            self._handle.flush()
        except OSError as error:
            raise from_os_error(error, "keeping n-grams in a temporary file") from error

    def of(self, row: int) -> np.ndarray:
        """The different n-grams of one row, sorted."""
        found = self._kept.get(row)
        if found is not None:
            self._kept.move_to_end(row)
            return found
        found = self._kept[row] = self._read(row)
        self._kept_bytes += found.nbytes
        while self._kept_bytes > KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return found

    def _read(self, row: int) -> np.ndarray:
        import numpy as np

        start, end = self._ends[row], self._ends[row + 1]
        data = os.pread(self._handle.fileno(), (end - start) * HASH_BYTES, start * HASH_BYTES)
        return np.unique(np.frombuffer(data, np.uint64))


@contextmanager
def open_spool(folder: Path | None) -> Iterator[Spool]:
    """A spool in ``folder`` (None: where the system keeps temporary files); nothing of it stays, even if we are killed."""
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        handle = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed below
    except OSError as error:
        raise from_os_error(error, "making a temporary file") from error
    with handle:
        yield Spool(handle)


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """The share of n-grams that two rows have in common, of those that either has; both sorted and without repeats."""
    import numpy as np

    if len(one) > len(other):
        one, other = other, one
    if not len(other):
        return 0.0
    at = np.searchsorted(other, one)
    at[at == len(other)] = 0
    shared = int(np.count_nonzero(other[at] == one))
    return shared / (len(one) + len(other) - shared)
