"""Ids that an earlier row has too, found as rows pass, in 16 bytes a row."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FIELDS = ("id", "_id")  # what the id of a row is called
RECENT = 1 << 16  # ids held in a dict of Python's before they are packed
LARGEST = 1 << 22  # ids in one packed piece; larger ones would take long, and three times their size, to merge
FILTER_BITS = 1 << 27  # of 10 million ids 7 in 100 are looked up that are not there
_GOLDEN = 0x9E3779B97F4A7C15  # an odd number whose multiples spread over 64 bits


def id_of(data: Mapping[str, Any]) -> Any:
    """The id of a row; None where it has none. Lists and objects are no ids."""
    value = next((data[name] for name in FIELDS if name in data), None)
    return None if isinstance(value, list | dict) else value


class Ids:
    """The ids of all rows that passed, as 64-bit hashes with the place of the row that had each first.

    Two ids with one hash would be taken for the same: among 50 million texts the odds are 1 in 15,000. Memory: 16
    bytes a row in packed pieces, and some 30 MB beside them, most of it a filter that knows of most new ids at once
    that they are new. Whole numbers that count up row by row take none.
    """

    def __init__(self) -> None:
        self._filter: NDArray[np.uint8] | None = None  # not needed as long as ids count up
        self._counted: list[list[int]] = []  # first number, last one, place of the first; places count up as well
        self._top = -1  # no whole number above it was met
        self._recent: dict[int, int] = {}
        self._packed: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

    def __len__(self) -> int:
        counted = sum(last - first + 1 for first, last, _ in self._counted)
        return counted + len(self._recent) + sum(len(hashes) for hashes, _ in self._packed)

    def add(self, ids: Sequence[Any], places: Sequence[int]) -> dict[int, int]:
        """Take in the ids of rows (None where there is none) with a number for each row's place.

        Returns index → place of the first row with that id, for each row that is not the first.
        """
        if self._counts_up(ids, places):
            return {}
        indexes: Sequence[int] = range(len(ids))
        if None in ids:
            indexes = [index for index in indexes if ids[index] is not None]
            ids, places = [ids[index] for index in indexes], [places[index] for index in indexes]
        self._top = max(self._top, max((one for one in ids if type(one) is int), default=-1))
        hashes = _hashes(ids)
        keys = hashes.tolist()
        fresh = dict(zip(keys, places, strict=True))
        known = self._seen(hashes) | self._seen_in_counted(ids, keys)
        found: dict[int, int] = {}
        if known or len(fresh) < len(keys):
            firsts = dict(known)
            for index, key, place in zip(indexes, keys, places, strict=True):
                if firsts.setdefault(key, place) != place:
                    found[index] = firsts[key]
            fresh = {key: firsts[key] for key in fresh if key not in known}
        self._recent |= fresh
        if len(self._recent) >= RECENT:
            self._pack()
        return found

    def _counts_up(self, ids: Sequence[Any], places: Sequence[int]) -> bool:
        """Whether ids and places count up by one, above all whole numbers before; they are then taken in."""
        first, last = ids[0], ids[-1]
        if type(first) is not int or type(last) is not int or not self._top < first < last < 1 << 63:
            return False
        if last - first != len(ids) - 1 or places[-1] - places[0] != len(ids) - 1 or set(map(type, ids)) != {int}:
            return False
        if ids != list(range(first, last + 1)):
            return False
        run = self._counted[-1] if self._counted else [0, -2, 0]
        if run[1] + 1 == first and run[2] + first - run[0] == places[0]:
            run[1] = last
        else:
            self._counted.append([first, last, places[0]])
        self._top = last
        return True

    def _seen_in_counted(self, ids: Sequence[Any], keys: Sequence[int]) -> dict[int, int]:
        """Hash → the first row's place, for whole numbers among those that counted up."""
        found = {}
        for value, key in zip(ids, keys, strict=True) if self._counted else ():
            if type(value) is int:
                run = self._counted[bisect_right(self._counted, value, key=itemgetter(0)) - 1]
                if run[0] <= value <= run[1]:
                    found[key] = run[2] + value - run[0]
        return found

    def _seen(self, hashes: NDArray[np.int64]) -> dict[int, int]:
        """Hash → the first row's place, for hashes of earlier calls; all are entered into the filter."""
        import numpy as np

        if self._filter is None:
            self._filter = np.zeros(FILTER_BITS // 8, np.uint8)
        bits = hashes & (FILTER_BITS - 1)
        places, masks = bits >> 3, np.left_shift(np.uint8(1), (bits & 7).astype(np.uint8))
        wanted = hashes[(self._filter[places] & masks) != 0]
        np.bitwise_or.at(self._filter, places, masks)
        found = {key: self._recent[key] for key in wanted.tolist() if key in self._recent} if len(wanted) else {}
        for known, firsts in self._packed if len(wanted) else ():
            at = np.searchsorted(known, wanted).clip(max=len(known) - 1)
            hits = np.flatnonzero(known[at] == wanted)
            found.update(zip(wanted[hits].tolist(), firsts[at[hits]].tolist(), strict=True))
        return found

    def _pack(self) -> None:
        """Make the recent ids a sorted piece, and merge it with those before it that are no larger."""
        import numpy as np

        hashes = np.fromiter(self._recent.keys(), np.int64, len(self._recent))
        firsts = np.fromiter(self._recent.values(), np.int64, len(self._recent))
        self._recent = {}
        while self._packed and len(self._packed[-1][0]) <= len(hashes) and 2 * len(hashes) <= LARGEST:
            other, others = self._packed.pop()
            hashes, firsts = np.concatenate((other, hashes)), np.concatenate((others, firsts))
        order = np.argsort(hashes, kind="stable")
        self._packed.append((hashes[order], firsts[order]))


def _hashes(ids: Sequence[Any]) -> NDArray[np.int64]:
    import numpy as np

    kinds = set(map(type, ids))
    if kinds == {int}:
        try:
            return np.fromiter(ids, np.int64, len(ids)) * np.int64(_signed(_GOLDEN))
        except OverflowError:  # beyond 64 bits
            pass
    return np.fromiter(map(hash if kinds == {str} else _hash, ids), np.int64, len(ids))


def _hash(value: Any) -> int:
    """The hash of one id; of whole numbers of 64 bits it is one to one, so no two of them are taken for the same."""
    if type(value) is int and -(1 << 63) <= value < 1 << 63:
        return _signed(value * _GOLDEN)
    return hash(value if type(value) is str else f"\0{value!r}")


def _signed(value: int) -> int:
    """The low 64 bits as a number with a sign, as arrays hold them."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)
