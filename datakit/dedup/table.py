"""A hash table of 128-bit keys in one numpy array: which key came first, and at which place."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

FIRST_SLOTS = 1 << 16
MOST_FULL = 0.7  # of the slots; then the table doubles
SLOT_BYTES = 24


class KeyTable:
    """Keys with the place of whoever brought each first. 34 to 69 bytes a key; half as much again while it doubles.

    The bits of keys are taken for random: they are hashes.
    """

    def __init__(self) -> None:
        self._slots = _empty(FIRST_SLOTS)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    @property
    def num_bytes(self) -> int:
        return int(self._slots.nbytes)

    def first_places(self, keys: np.ndarray, places: np.ndarray) -> np.ndarray:
        """For each key (uint64, two a row) the place that it was first brought with; new keys take their own of ``places``.

        ``places`` are not negative and grow; of equal keys in one call the first one counts.
        """
        while self._used + len(keys) > MOST_FULL * len(self._slots):
            self._double()
        found, added = _enter(self._slots, keys, places)
        self._used += added
        return found

    def _double(self) -> None:
        """Move to twice as many slots, a part at a time: only the two tables are held, no copy of the keys."""
        import numpy as np

        old, self._slots = self._slots, _empty(2 * len(self._slots))
        for start in range(0, len(old), FIRST_SLOTS):
            part = old[start : start + FIRST_SLOTS]
            part = part[part[:, 2] != 0]
            _enter(self._slots, part[:, :2], (part[:, 2] - np.uint64(1)).astype(np.int64))


def _empty(slots: int) -> np.ndarray:
    """``slots`` rows of two halves of a key and the place + 1; 0 there means that the slot is free."""
    import numpy as np

    return np.zeros((slots, 3), np.uint64)


def _enter(slots: np.ndarray, keys: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, int]:
    """Look up ``keys``, and enter those that are new; the place of each, and how many were new.

    Linear probing, all keys a step at a time. Several keys may want one free slot: the first of them takes it, and
    the others look at it once more, as they may be equal to it.
    """
    import numpy as np

    last = np.uint64(len(slots) - 1)
    found = np.empty(len(keys), np.int64)
    pending = np.arange(len(keys))
    at = (keys[:, 0] & last).astype(np.int64)
    added = 0
    while len(pending):
        wanted = keys[pending]
        held = slots[at]
        free = held[:, 2] == 0
        same = (held[:, 0] == wanted[:, 0]) & (held[:, 1] == wanted[:, 1]) & ~free
        found[pending[same]] = held[same, 2].astype(np.int64) - 1
        asking = np.flatnonzero(free)
        # Of equal indexes the last assignment counts, so that the first key comes last.
        slots[at[asking[::-1]], 2] = (places[pending[asking[::-1]]] + 1).astype(np.uint64)
        won = asking[slots[at[asking], 2] == (places[pending[asking]] + 1).astype(np.uint64)]
        slots[at[won], :2] = wanted[won]
        found[pending[won]] = places[pending[won]]
        added += len(won)
        left = ~same
        left[won] = False
        moving = left & ~free
        at[moving] = (at[moving] + 1) & int(last)
        pending, at = pending[left], at[left]
    return found, added
