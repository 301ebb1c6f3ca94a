"""Which side each row goes to: exact counts over rows, or as near as whole groups allow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datakit.mixing import mix

if TYPE_CHECKING:
    import numpy as np

TRAIN, VAL, TEST = 0, 1, 2
NAMES = ("train", "val", "test")  # by side
CHUNK = 1 << 16  # groups looked at in one go


def allocate(total: int, sizes: Sequence[int], ties: Sequence[int]) -> list[int]:
    """``total`` dealt out in proportion to ``sizes``, whole numbers that add up to it (largest remainder).

    No share exceeds its size. Equal remainders go to the lower of ``ties``. ``total`` is at most the sum of ``sizes``.
    """
    whole = sum(sizes)
    if not whole:
        return [0] * len(sizes)
    parts = [divmod(total * size, whole) for size in sizes]
    shares = [quotient for quotient, _ in parts]
    by_remainder = sorted(range(len(sizes)), key=lambda i: (-parts[i][1], ties[i]))
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares


def choose_rows(
    priority: np.ndarray, stratum: np.ndarray | None, val: Sequence[int], test: Sequence[int]
) -> np.ndarray:
    """The side of each row, as bytes: of every stratum the first ``val`` rows by ``priority``, then ``test``.

    ``stratum`` holds codes from 0 on, and ``val`` and ``test`` a count for each; None means one stratum.
    """
    import numpy as np

    sides = np.zeros(len(priority), np.uint8)
    if stratum is None:
        held_out = val[0] + test[0]
        sides[_lowest(priority, held_out)] = TEST
        sides[_lowest(priority, val[0])] = VAL
        return sides
    order = np.lexsort((priority, stratum))
    start = 0
    for size, num_val, num_test in zip(np.bincount(stratum, minlength=len(val)).tolist(), val, test, strict=True):
        sides[order[start : start + num_val]] = VAL
        sides[order[start + num_val : start + num_val + num_test]] = TEST
        start += size
    return sides


def _lowest(values: np.ndarray, count: int) -> np.ndarray:
    """Where the ``count`` lowest values stand, the first ones of equal values. Takes 9 bytes a value, not 16 as sorting."""
    import numpy as np

    if not count:
        return np.empty(0, np.int64)
    highest = np.partition(values, count - 1)[count - 1]
    lower = np.flatnonzero(values < highest)
    equal = np.flatnonzero(values == highest)
    return np.concatenate([lower, equal[: count - len(lower)]])


@dataclass(frozen=True)
class Units:
    """Groups of rows that stay together, in order of priority, and how many rows of which stratum each holds.

    Group ``i`` holds ``counts[starts[i]:starts[i + 1]]`` rows of the strata at the same places of ``strata``.
    """

    codes: np.ndarray  # the unit of each place in the order
    starts: np.ndarray
    strata: np.ndarray
    counts: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """Rows of each unit, in order of priority."""
        import numpy as np

        return np.add.reduceat(self.counts, self.starts[:-1]) if len(self.codes) else self.counts

    def look(self, order: np.ndarray) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        """The units at the places ``order``: each with its (stratum, rows)."""
        for at in range(0, len(order), CHUNK):
            places = order[at : at + CHUNK]
            for place, start, end in zip(
                places.tolist(), self.starts[places].tolist(), self.starts[places + 1].tolist(), strict=True
            ):
                strata, counts = self.strata[start:end].tolist(), self.counts[start:end].tolist()
                yield place, list(zip(strata, counts, strict=True))


def units_in_order(unit: np.ndarray, priority: np.ndarray, stratum: np.ndarray | None) -> Units:
    """The units of rows (codes from 0 on), each with the lowest priority of its rows, mixed once more."""
    import numpy as np

    num_units = int(unit.max()) + 1
    lowest = np.full(num_units, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(lowest, unit, priority)
    # The lowest hash of a group is lower the larger the group is; mixed once more, it no longer tells the size.
    order = np.argsort(mix(lowest), kind="stable")
    del lowest
    place = np.empty(num_units, np.int64)
    place[order] = np.arange(num_units)
    if stratum is None:
        counts = np.bincount(unit, minlength=num_units)[order]
        return Units(order, np.arange(num_units + 1), np.zeros(num_units, np.int64), counts)
    num_strata = int(stratum.max()) + 1
    cell = place[unit]
    cell *= num_strata
    cell += stratum
    cells, counts = np.unique(cell, return_counts=True)
    starts = np.searchsorted(cells, np.arange(num_units + 1) * num_strata)
    return Units(order, starts, cells % num_strata, counts)


def choose_units(units: Units, wanted: Sequence[int], free: np.ndarray) -> np.ndarray:
    """The places of the units whose rows come nearest to ``wanted`` (rows of each stratum), out of those ``free``.

    First come, first served while nothing goes beyond what is wanted; what is then missing is made up by the
    smallest units that bring more than they overshoot. At least one unit is taken.
    """
    import numpy as np

    left, missing = list(wanted), sum(wanted)
    taken: list[int] = []
    for place, parts in units.look(free):
        if missing <= 0:
            break
        if all(count <= left[stratum] for stratum, count in parts):
            taken.append(place)
            for stratum, count in parts:
                left[stratum] -= count
                missing -= count
    if missing > 0:
        rest = np.setdiff1d(free, np.array(taken, np.int64), assume_unique=True)
        by_size = rest[np.argsort(units.sizes[rest], kind="stable")]
        for place, parts in units.look(by_size):
            if all(count <= 0 for count in left):
                break
            gain = sum(abs(left[stratum]) - abs(left[stratum] - count) for stratum, count in parts)
            if gain > 0:
                taken.append(place)
                for stratum, count in parts:
                    left[stratum] -= count
        if not taken and len(by_size):
            taken.append(int(by_size[0]))
    return np.array(taken, np.int64)
