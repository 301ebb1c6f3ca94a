"""What is to become of each row: filled in and renamed, or taken through a record into another format."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from datakit.layout import AUTO, lookup, reach
from registry.datasets import OPENAI_TAGS, Layout
from registry.errors import RowFault, UsageError, known_hint
from registry.formats import LAYOUTS, READERS, WRITERS
from registry.formats.fields import optional_text
from registry.formats.targets import TARGETS, recast
from registry.rows import Row

KEEP = "keep"
PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][\w.-]*)\s*\}\}")
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Recasting:
    """How rows change: ``make`` gives the rows for one row, or raises ``RowFault``.

    ``shape`` is the format whose columns they then have (None: their own), ``drops`` the parts that go missing on the
    way, and ``is_plain`` says that a record stays of its kind, so that each row makes exactly one.
    """

    make: Callable[[Row], Sequence[Mapping[str, Any]]]
    shape: str | None = None
    drops: tuple[str, ...] = ()
    is_plain: bool = True


def check_formats(from_format: str, to_format: str, shape: str) -> None:
    """Raise ``UsageError`` for names that are not known, and for a shape where the target has only one."""
    known_names = (("--from", from_format, (AUTO, *LAYOUTS)), ("--to", to_format, (KEEP, *TARGETS)))
    for flag, name, known in (*known_names, ("--shape", shape, (AUTO, *WRITERS))):
        if name not in known:
            mend = known_hint(name, known)
            what = "shape" if flag == "--shape" else "format"
            raise UsageError(f'unknown {what} "{name}"', where=flag, mend=mend)
    if shape != AUTO and to_format not in ("preference", "kto"):
        raise UsageError(
            f"only preference and kto rows come in several shapes, not {to_format}",
            where=f"--shape {shape}",
            mend="Leave it out.",
        )


def keeping(mapping: Mapping[str, str], fill: Mapping[str, str]) -> Recasting:
    """Rows as they are, filled in first, then renamed."""

    def kept(row: Row) -> Sequence[Mapping[str, Any]]:
        data = filled(row.data, fill) if fill else row.data
        return (renamed(data, mapping, row.where) if mapping else data,)

    return Recasting(kept)


def recasting(
    layout: Layout, to_format: str, shape: str, mapping: Mapping[str, str], fill: Mapping[str, str]
) -> Recasting:
    """Rows of ``layout`` as rows of ``to_format``. Raises ``UsageError`` where that has no meaning."""
    way = recast(layout.kind, to_format)
    shape = _shape_of(layout, to_format, shape)
    reader, writer = READERS[layout.formatting], WRITERS[shape]
    dotted = [column for column in mapping.values() if "." in column]
    # Instruction and input need not be joined where both sides keep them apart.
    same_parts = layout.formatting == shape == "alpaca" and to_format != "text"

    def through_record(row: Row) -> Sequence[Mapping[str, Any]]:
        data = filled(row.data, fill) if fill else row.data
        data = reach(data, dotted) if dotted else data
        record = reader(data, layout)
        try:
            made = [writer(one) for one in way.make(record)]
        except RowFault as fault:
            own = getattr(layout.columns, fault.field, None)
            raise RowFault(own or fault.field, fault.reason) from None
        if same_parts:
            for one in made:
                one["instruction"] = optional_text(data, layout.columns.prompt)
                one["input"] = optional_text(data, layout.columns.query)
        return made

    return Recasting(through_record, shape, way.drops, is_plain=layout.kind == TARGETS[to_format])


def _shape_of(layout: Layout, to_format: str, shape: str) -> str:
    """The format whose columns the rows get; with ``auto`` the source's own where there is a choice."""
    if to_format in WRITERS:
        return to_format
    if to_format == "text":
        return "alpaca"
    if shape != AUTO:
        return shape
    if layout.formatting == "alpaca":
        return "alpaca"
    return "openai" if layout.tags == OPENAI_TAGS else "sharegpt"


def reading_calls(layout: Layout) -> Layout:
    """``layout`` with tool calls read wherever messages are spelled as openai's, also beside chosen and rejected."""
    spelled = layout.formatting == "sharegpt" and layout.tags == OPENAI_TAGS
    return replace(layout, formatting="openai") if spelled else layout


def renamed(data: Mapping[str, Any], mapping: Mapping[str, str], where: str) -> dict[str, Any]:
    """``data`` with mapped columns under their new names, in place; what a dotted name reaches is copied out.

    Raises ``UsageError`` for a new name that another column has.
    """
    new_names: dict[str, list[str]] = {}
    for name, column in mapping.items():
        new_names.setdefault(column, []).append(name)
    row: dict[str, Any] = {}
    for column, value in data.items():
        if column in mapping and column not in new_names:
            raise UsageError(
                f'"{column}" is there already, so {mapping[column]} cannot get this name',
                where=where,
                mend=f"Rename that one too, e.g. --map old_{column}={column}.",
            )
        row.update(dict.fromkeys(new_names.get(column, (column,)), value))
    for column, names in new_names.items():
        if column not in data and (value := lookup(data, column, _MISSING)) is not _MISSING:
            row.update(dict.fromkeys(names, value))
    return row


def filled(value: Any, fill: Mapping[str, str]) -> Any:
    """``value`` with ``{{name}}`` replaced in every text, however deep; names that are not given stay."""
    if isinstance(value, str):
        return PLACEHOLDER.sub(lambda m: fill.get(m[1], m[0]), value) if "{{" in value else value
    if isinstance(value, dict):
        return {key: filled(inner, fill) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, fill) for inner in value]
    return value
