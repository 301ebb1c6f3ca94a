"""Rows that must stay together: whatever shares a key, directly or through others, is one unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datakit.split.look import NO_KEY

if TYPE_CHECKING:
    import numpy as np


def units_of(group: np.ndarray, rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """The unit of each row, as codes from 0 on: 4 bytes a row.

    ``group`` holds a key for each row (``NO_KEY`` for none), and ``rows`` and ``keys`` are pairs: row ``rows[i]`` also
    has the key ``keys[i]``, one of any number. Rows without a key are units of their own.
    """
    import numpy as np

    unit = np.empty(len(group), np.int32 if len(group) < 1 << 31 else np.int64)
    names, unit[:] = np.unique(group, return_inverse=True)
    if len(rows):
        names, unit = _joined(names, unit, rows, keys)
    alone = np.flatnonzero(unit == _code_of(names, NO_KEY))
    unit[alone] = len(names) + np.arange(len(alone))
    return _dense(unit, len(names) + len(alone))


def _joined(names: np.ndarray, unit: np.ndarray, rows: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The keys of all kinds, and for each row the code of the one that stands for all that it is joined to."""
    import numpy as np

    every = np.union1d(names, keys)
    unit = np.searchsorted(every, names).astype(unit.dtype)[unit]
    order = np.argsort(rows, kind="stable")
    rows, key = rows[order], np.searchsorted(every, keys[order]).astype(unit.dtype)
    nothing = _code_of(every, NO_KEY)
    first = np.ones(len(rows), bool)
    first[1:] = rows[1:] != rows[:-1]
    before = np.where(first, unit[rows], np.roll(key, 1))  # the key of the row that comes before this one
    joined = before != nothing
    root = _roots(len(every), before[joined], key[joined])
    unit[rows] = key
    return every, root[unit]


def _code_of(names: np.ndarray, name: int) -> int:
    """The code of a key, -1 where there is none."""
    import numpy as np

    at = int(np.searchsorted(names, np.uint64(name)))
    return at if at < len(names) and names[at] == name else -1


def _dense(unit: np.ndarray, num_codes: int) -> np.ndarray:
    """The codes without those that no row has, in the same order."""
    import numpy as np

    used = np.zeros(num_codes, bool)
    used[unit] = True
    codes = np.cumsum(used, dtype=unit.dtype)
    codes -= 1
    return codes[unit]


def _roots(num_keys: int, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """For each key the lowest key that it is joined to by the pairs ``one``-``other``, at any distance."""
    import numpy as np

    root = np.arange(num_keys, dtype=one.dtype)
    if not len(one):
        return root
    pairs = np.unique(np.stack([np.minimum(one, other), np.maximum(one, other)], axis=1), axis=0)
    parent = root.tolist()

    def find(key: int) -> int:
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for a, b in pairs.tolist():
        low, high = sorted((find(a), find(b)))
        parent[high] = low
    root = np.array(parent, one.dtype)
    while not np.array_equal(root, higher := root[root]):
        root = higher
    return root
