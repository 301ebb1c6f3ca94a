"""From the notes of the first reading to a side for each row, and what was reached by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datakit.mixing import mix
from datakit.split.choose import NAMES, TEST, TRAIN, VAL, allocate, choose_rows, choose_units, units_in_order
from datakit.split.families import Families, find_families
from datakit.split.groups import units_of
from datakit.split.look import NO_KEY, Notes, key_of
from datakit.split.size import Size
from registry.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Plan:
    """The side of each row that can be written, in order, and what to tell about it."""

    sides: np.ndarray  # of bytes: TRAIN, VAL, TEST
    asked: Mapping[int, Size]
    counts: tuple[int, int, int]  # rows by side
    families: Families
    num_units: int | None  # None where every row stands alone
    largest_unit: int
    by: str | None
    num_without_group: int
    stratify: str | None
    strata: Mapping[str, tuple[int, int, int]]  # value -> rows by side

    @property
    def num_rows(self) -> int:
        return sum(self.counts)

    def missed(self, side: int) -> int:
        """How many rows a side has beyond (or, negative, below) what was asked for."""
        return self.counts[side] - self.asked[side].of(self.num_rows)


def plan_sides(notes: Notes, asked: Mapping[int, Size]) -> Plan:
    """Choose the side of each row. Raises ``UsageError`` where a side would be left without a row."""
    import numpy as np

    wanted = {side: size.of(len(notes)) for side, size in asked.items()}
    _check_sizes(wanted, notes)
    families = find_families(notes)
    priority = np.frombuffer(notes.priority, np.uint64)
    stratum = np.frombuffer(notes.stratum, notes.stratum.typecode) if notes.stratify else None
    ties = [key_of(f"stratum {notes.seed}", name) for name in notes.strata] if notes.stratify else [0]
    sizes = np.bincount(stratum, minlength=len(ties)).tolist() if stratum is not None else [len(notes)]
    unit = _units(notes, families)
    if unit is None:
        val = allocate(wanted[VAL], sizes, ties)
        rest = [size - count for size, count in zip(sizes, val, strict=True)]
        sides = choose_rows(mix(priority), stratum, val, allocate(wanted[TEST], rest, ties))
        num_units, largest = None, 1
    else:
        units = units_in_order(unit, priority, stratum)
        sides, largest = _sides_of_units(units, unit, wanted, sizes, ties), int(units.sizes.max())
        num_units = len(units.codes)
    counts = np.bincount(sides, minlength=3)
    _check_sides(counts.tolist(), wanted, largest)
    return Plan(
        sides, asked, tuple(counts.tolist()), families, num_units, largest, notes.by, notes.num_without_group,
        notes.stratify, _by_stratum(sides, stratum, list(notes.strata)),
    )  # fmt: skip


def _check_sizes(wanted: Mapping[int, int], notes: Notes) -> None:
    rows, held_out = len(notes), sum(wanted.values())
    if not rows:
        raise DataError(
            f"there is no row to split: {notes.num_rejected:,} rejected", mend="See why:  datakit validate FILE"
        )
    if held_out >= rows:
        asked = " and ".join(f"--{NAMES[side]} takes {count:,}" for side, count in wanted.items() if count)
        raise UsageError(f"no row would be left to train on: {asked} of {rows:,} rows", mend="Ask for fewer.")


def _check_sides(counts: Sequence[int], wanted: Mapping[int, int], largest: int) -> None:
    empty = [NAMES[side] for side, count in enumerate(counts) if not count and wanted.get(side, 1)]
    if empty:
        raise UsageError(
            f"no row is left for {' and '.join(empty)}: rows that stay together make too few groups, the largest of"
            f" {largest:,} rows out of {sum(counts):,}",
            mend="Ask for another --by field, or for another size.",
        )


def _units(notes: Notes, families: Families) -> np.ndarray | None:
    """The unit of each row; None where no row is tied to another by anything."""
    import numpy as np

    group = np.frombuffer(notes.group, np.uint64) if notes.by else np.full(len(notes), NO_KEY, np.uint64)
    if not len(families.rows) and not group.any():
        return None
    return units_of(group, families.rows, families.keys)


def _sides_of_units(
    units: Any, unit: np.ndarray, wanted: Mapping[int, int], sizes: Sequence[int], ties: Sequence[int]
) -> np.ndarray:
    import numpy as np

    free, left = np.arange(len(units.codes)), list(sizes)
    side_of_unit = np.zeros(len(units.codes), np.uint8)
    for side in (VAL, TEST):
        if not wanted[side]:
            continue
        chosen = choose_units(units, allocate(min(wanted[side], sum(left)), left, ties), free)
        side_of_unit[units.codes[chosen]] = side
        free = np.setdiff1d(free, chosen, assume_unique=True)
        for _, parts in units.look(chosen):
            for stratum, count in parts:
                left[stratum] -= count
    return side_of_unit[unit]


def _by_stratum(sides: np.ndarray, stratum: np.ndarray | None, names: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    import numpy as np

    if stratum is None:
        return {}
    table = np.bincount(stratum.astype(np.int64) * 3 + sides, minlength=3 * len(names)).reshape(-1, 3)
    return {name: (row[TRAIN], row[VAL], row[TEST]) for name, row in zip(names, table.tolist(), strict=True)}
