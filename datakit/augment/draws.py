"""Which rows stand together in a pool: drawn by a seed, by what the rows say and by the number of the draw."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from datakit.augment.seeds import content_key
from registry.records import Record

if TYPE_CHECKING:
    import numpy as np


def keys_of(records: Iterable[Record]) -> np.ndarray:
    """64 bits of each record's content: all that ``draw`` needs of them, 8 bytes a row."""
    import numpy as np

    return np.fromiter((content_key(record) for record in records), np.uint64)


def draw(keys: np.ndarray, size: int, number: int, seed: int = 0) -> list[int]:
    """Positions of ``size`` rows with different contents (fewer, where there are not so many).

    Each draw ranks all rows by a mix of ``seed``, the draw's ``number`` and the row's key, and takes the first, in that
    order. So it does not matter in which order the rows come, and one row more changes a draw only where it ranks among
    the first: about ``size`` of ``len(keys)`` draws. Of equal rows the first stands for all.
    """
    import numpy as np

    rank = mixed(keys ^ mixed(np.array([(seed << 32 ^ number) & 0xFFFF_FFFF_FFFF_FFFF], np.uint64)))
    most = len(rank)
    taken = min(size, most)
    while True:  # more than asked for, where rows repeat
        first = np.argpartition(rank, taken - 1)[:taken] if taken < most else np.arange(most)
        first = first[np.lexsort((first, rank[first]))]
        _, at = np.unique(rank[first], return_index=True)
        if len(at) >= size or taken == most:
            # The ranks among the taken are complete but for ties with the last one, which are repetitions of it.
            return [int(np.flatnonzero(rank == rank[first[i]])[0]) for i in at[:size]]
        taken = min(2 * taken, most)


def mixed(values: np.ndarray) -> np.ndarray:
    """Each of the 64-bit values well mixed: equal stays equal, all else is as good as random (splitmix64's last steps)."""
    import numpy as np

    x = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
