"""The layout of rows that nothing tells but the rows themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from registry.datasets import Layout
from registry.errors import RowFault
from registry.formats import READERS, detect, trl

# Parts that a row may leave out, so that the first rows alone cannot tell whether the data has them.
_OPTIONAL = {"query": "input", "history": "history", "system": "system", "tools": "tools"}
_SIDE_BY_SIDE = frozenset({"query", "history"})


def guess_layout(rows: Sequence[Mapping[str, Any]]) -> Layout | None:
    """The layout of the first of ``rows`` that looks like one of a known format, with the parts that rows after it may
    have besides; None where no row does."""
    for row in rows:
        seen = trl.layout_of(row) or detect(row)
        if seen is not None:
            return _with_optional(seen)
    return None


def _with_optional(layout: Layout) -> Layout:
    if layout.kind == "text" or layout.formatting == trl.FORMATTING:
        return layout
    taken = {column for column in asdict(layout.columns).values() if column}
    more = {
        part: name
        for part, name in _OPTIONAL.items()
        if getattr(layout.columns, part) is None
        and name not in taken
        and (layout.formatting == "alpaca" or part not in _SIDE_BY_SIDE)
    }
    return replace(layout, columns=replace(layout.columns, **more))


def first_fault(rows: Iterable[Mapping[str, Any]], layout: Layout) -> RowFault | None:
    """Why the first row is no record, where none of ``rows`` is one; None where any is, or there is no row."""
    found = None
    for row in rows:
        try:
            READERS[layout.formatting](row, layout)
        except RowFault as fault:
            found = found or fault
        else:
            return None
    return found


def described(layout: Layout, met: Iterable[str]) -> str:
    """A layout in a line, with those of its columns that were ``met``: ``alpaca (chat): prompt = instruction, …``."""
    there = set(met)
    parts = [f"{part} = {column}" for part, column in asdict(layout.columns).items() if column in there]
    if layout.kind == "text":
        return f"plain text, in the column {layout.columns.prompt}"
    return f"{layout.formatting} ({layout.kind}): {', '.join(parts)}"
