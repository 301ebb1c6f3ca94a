"""Slices of a split, as the datasets library spells them: ``train[:10%]``, ``train[100:200]+train[-50:]``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from registry.errors import UsageError

_PART = re.compile(r"(?P<split>[\w.-]+)(?:\[(?P<slice>[^\[\]]*)\](?P<rounding>\(.*\))?)?")
_SLICE = re.compile(r"\s*(?P<start>-?[\d_]+)?(?P<start_pct>%)?\s*:\s*(?P<stop>-?[\d_]+)?(?P<stop_pct>%)?\s*")


@dataclass(frozen=True, slots=True)
class RowSlice:
    """Rows ``start`` (included) to ``stop`` (not), both counted from 0, from the end where negative, None an open end;
    with ``percent`` they are hundredths of the split."""

    start: int | None = None
    stop: int | None = None
    percent: bool = False

    def rows_of(self, num_rows: int) -> range:
        """Which of ``num_rows`` rows it means (as datasets 5.2.0, arrow_reader.py: hundredths are rounded to the nearest
        row, and what lies beyond an end is cut)."""
        start = 0 if self.start is None else self._rows(self.start, num_rows)
        stop = num_rows if self.stop is None else self._rows(self.stop, num_rows)
        start, stop = (max(num_rows + at, 0) if at < 0 else min(at, num_rows) for at in (start, stop))
        return range(start, max(start, stop))

    def _rows(self, boundary: int, num_rows: int) -> int:
        return round(boundary * num_rows / 100.0) if self.percent else boundary

    def __str__(self) -> str:
        unit = "%" if self.percent else ""
        start, stop = ("" if at is None else f"{at}{unit}" for at in (self.start, self.stop))
        return f"[{start}:{stop}]"


def parse_split(text: str, where: str) -> tuple[str, tuple[RowSlice, ...]]:
    """The splits named in ``text``, without their slices, and the slices; none where whole splits are meant.

    Raises ``UsageError`` (at ``where``) for what is no split, and where slices of several splits are added up.
    """
    if "[" not in text:
        return text, ()
    splits: dict[str, None] = {}
    slices = []
    for part in re.split(r"\s*\+\s*", text.strip()):
        found = _PART.fullmatch(part)
        bounds = _SLICE.fullmatch(found["slice"]) if found and found["slice"] is not None else None
        if found is None or (found["slice"] is not None and bounds is None):
            raise UsageError(
                f'"{part}" is no part of a split', where=where, mend="For example  train[:10%]  or  train[100:200]"
            )
        if found["rounding"]:
            raise UsageError(
                f'"{part}": {found["rounding"]} is not done here, hundredths are rounded to the nearest row',
                where=where,
                mend="Leave it out, or name the rows themselves.",
            )
        splits[found["split"]] = None
        slices.append(_slice_of(bounds, part, where) if bounds else RowSlice())
    if len(splits) > 1:
        raise UsageError(
            f'"{text}" adds up slices of several splits ({", ".join(splits)})',
            where=where,
            mend="Make an entry for each split, and name both as the run's datasets.",
        )
    return next(iter(splits)), tuple(slices)


def _slice_of(bounds: re.Match[str], part: str, where: str) -> RowSlice:
    percent = bool(bounds["start_pct"] or bounds["stop_pct"])
    start, stop = (int(bounds[side]) if bounds[side] is not None else None for side in ("start", "stop"))
    if percent and any(abs(at) > 100 for at in (start, stop) if at is not None):
        raise UsageError(f'"{part}": hundredths go from -100% to 100%', where=where)
    return RowSlice(start, stop, percent)


def sliced_rows(slices: Sequence[RowSlice], num_rows: int) -> list[range]:
    """Which of ``num_rows`` rows the slices mean, one range each; all of them where there are no slices."""
    return [one.rows_of(num_rows) for one in slices] if slices else [range(num_rows)]
