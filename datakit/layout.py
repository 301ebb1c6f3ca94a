"""Which layout rows have: the format that is named, else the one they look like, with parts mapped by hand on top."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any

from registry.blocks import Item, rows_of_item
from registry.datasets import COLUMN_KEYS, OPENAI_TAGS, Columns, Layout, Tags
from registry.errors import UsageError, known_hint, nearest
from registry.formats import LAYOUTS, columns, detect, layout_named, trl, undetected
from registry.rows import BadRow, Row

log = logging.getLogger("tunekit")

AUTO = "auto"
MOST_NAMES = 50  # columns listed in an error
HEAD_ROWS = 100  # readable rows looked at before rows are said to be of no known format
# Our names for parts beside LLaMA-Factory's column keys.
ALIASES = {
    "instruction": "prompt",
    "text": "prompt",
    "input": "query",
    "output": "response",
    "conversations": "messages",
}
PARTS = tuple(dict.fromkeys((*ALIASES, *(key for key in COLUMN_KEYS if key not in ("images", "videos", "audios")))))
_SIDE_BY_SIDE = frozenset({"prompt", "query", "response", "history"})
# Parts that a row may leave out, so that the first rows alone cannot tell whether the data has them.
_OPTIONAL = {"query": "input", "history": "history", "system": "system", "tools": "tools"}
# --from -> kinds of records that rows of whole conversations may then be
_KINDS_OF_CONVERSATIONS = {
    AUTO: ("chat", "preference", "feedback"),
    "openai": ("chat",),
    "preference": ("preference",),
    "kto": ("feedback",),
}
_PARTS_OF_CONVERSATIONS = {"prompt", "messages", "response", "chosen", "rejected", "kto_tag", "system", "tools"}


def peek(rows: Iterator[Row | BadRow], format_name: str = AUTO) -> tuple[list[Row], Iterator[Row | BadRow]]:
    """The readable ones of the first rows, and all rows again. Stops at the first row that tells its format."""
    head: list[Row | BadRow] = []
    readable: list[Row] = []
    for row in rows:
        head.append(row)
        if isinstance(row, Row):
            readable.append(row)
            if format_name != AUTO or detect(row.data) is not None or len(readable) == HEAD_ROWS:
                break
    return readable, chain(head, rows)


def peek_items(items: Iterator[Item], format_name: str = AUTO) -> tuple[list[Row], Iterator[Item]]:
    """As ``peek``, where rows may come in blocks: the readable ones of the first rows, and all items again."""
    passed: list[Item] = []

    def rows() -> Iterator[Row | BadRow]:
        for item in items:
            passed.append(item)
            yield from rows_of_item(item)

    head, _ = peek(rows(), format_name)
    return head, chain(passed, items)


def resolve_layout(
    format_name: str, mapping: Mapping[str, str], head: Sequence[Row], *, flag: str = "--map"
) -> Layout | None:
    """The layout to read rows with; None where no row is readable and nothing was said.

    ``mapping`` (part → column, see ``PARTS``) overrides the named or detected layout part by part. A format named
    or detected also takes the optional parts that only later rows may have; a mapping alone means what it lists.
    Raises ``UsageError`` (naming ``flag``) for unknown formats and parts, and for rows that fit no known format.
    """
    wanted = _mapped_parts(mapping, flag)
    base: Layout | None
    if format_name != AUTO:
        base = _named(format_name, head, wanted)
    else:
        base = next((seen for row in head if (seen := detect(_with_mapped(row.data, mapping))) is not None), None)
    if base is not None:
        base = _with_optional(base, wanted)
    if wanted:
        base = _override(base, wanted, mapping, head, flag)
    if base is None and head:
        raise undetected(head[0].data, head[0].where)
    return base


def resolve_conversations(format_name: str, mapping: Mapping[str, str], head: Sequence[Row]) -> Layout | None:
    """The layout of rows with whole conversations in chosen and rejected (see ``registry.formats.trl``), else None."""
    wanted = _mapped_parts(mapping, "--map")
    kind = _KINDS_OF_CONVERSATIONS.get(format_name)
    other = not wanted.keys() <= _PARTS_OF_CONVERSATIONS or {"prompt", "messages"} <= wanted.keys()
    if kind is None or other or "text" in mapping:
        return None
    parts = {"prompt" if part == "messages" else part: column for part, column in wanted.items()}
    for row in head:
        seen = trl.layout_of(reach(row.data, parts.values()), parts)
        if seen is not None:
            return seen if seen.kind in kind else None
    return None


def _named(name: str, head: Sequence[Row], wanted: Mapping[str, str]) -> Layout:
    first = head[0].data if head else None
    layout = layout_named(name, first)
    seen = detect(first) if first is not None else None
    if seen is None or name not in ("alpaca", "sharegpt", "openai"):
        fitted = layout
    elif name == "alpaca" and seen.formatting == "alpaca" and seen.columns.response:
        fitted = replace(seen, columns=replace(seen.columns, kto_tag=None))
    elif name == "sharegpt" and seen.columns.messages:
        fitted = replace(seen, formatting="sharegpt")
    elif name == "openai" and seen.tags == OPENAI_TAGS:
        fitted = seen
    else:
        fitted = layout
    missing = [
        c for part, c in key_columns(fitted).items() if part not in wanted and not any(c in r.data for r in head)
    ]
    if missing and head and not wanted:
        row = head[0]
        if seen is not None:
            raise UsageError(
                f'these rows are not "{name}": they have no "{missing[0]}". Their columns: {", ".join(row.data)}',
                where=row.where,
                mend=f"They look like {describe_format(seen)}; leave --format and --from at auto to read them as that.",
            )
        raise undetected(row.data, row.where)
    return fitted


def _with_mapped(data: Mapping[str, Any], mapping: Mapping[str, str]) -> Mapping[str, Any]:
    """The row as it looks to detection: a mapped column no longer stands for what its own name says."""
    return {name: value for name, value in data.items() if name not in mapping.values()} if mapping else data


def _with_optional(base: Layout, wanted: Mapping[str, str]) -> Layout:
    taken = {*used_columns(base), *wanted.values()}
    texts = base.kind == "text"
    more = {
        part: name
        for part, name in _OPTIONAL.items()
        if getattr(base.columns, part) is None
        and name not in taken
        and not texts
        and (base.formatting == "alpaca" or part not in _SIDE_BY_SIDE)
    }
    return replace(base, columns=replace(base.columns, **more))


def _mapped_parts(mapping: Mapping[str, str], flag: str) -> dict[str, str]:
    """``mapping`` with LLaMA-Factory's keys. Raises ``UsageError`` for unknown parts and parts given twice."""
    parts: dict[str, str] = {}
    for name, column in mapping.items():
        if name not in PARTS:
            raise UsageError(
                f'"{name}" is not a part of a row',
                where=flag,
                mend=known_hint(name, PARTS),
            )
        key = ALIASES.get(name, name)
        if key in parts:
            raise UsageError(f'"{key}" is mapped twice, also as "{name}"', where=flag, mend="Keep one of them.")
        parts[key] = column
    return parts


def _override(
    base: Layout | None, wanted: dict[str, str], mapping: Mapping[str, str], head: Sequence[Row], flag: str
) -> Layout:
    side_by_side = bool(_SIDE_BY_SIDE & wanted.keys())
    if side_by_side and "messages" in wanted:
        raise UsageError(
            f"{', '.join(mapping)} cannot go together: either parts side by side or a list of messages", where=flag
        )
    if "text" in mapping:
        return replace(LAYOUTS["text"], columns=columns(prompt=wanted["prompt"]))
    if "messages" in wanted and (base is None or base.columns.messages is None):
        base = _empty_messages(wanted["messages"], head)
    elif base is None or (side_by_side and base.formatting != "alpaca"):
        if not side_by_side:
            if head:
                raise undetected(head[0].data, head[0].where)
            return LAYOUTS["alpaca"]
        base = Layout("alpaca", columns())
        if not {"response", "chosen"} & wanted.keys() and "prompt" not in mapping:
            raise UsageError(
                "a question is mapped, but no answer",
                where=flag,
                mend=f"Add {flag} output=COLUMN (or chosen= and rejected=); for plain text use {flag} text=COLUMN.",
            )
    merged = replace(base.columns, **wanted)
    ranking = bool(merged.chosen and merged.rejected)
    if ranking and base.formatting == "alpaca":
        merged = replace(merged, response=None)
    formatting = "sharegpt" if base.formatting == "openai" and (ranking or merged.kto_tag) else base.formatting
    return Layout(formatting, merged, base.tags, ranking)


def _empty_messages(column: str, head: Sequence[Row]) -> Layout:
    """A layout of messages in ``column``, spelled as the first row with turns in it spells them."""
    for row in head:
        turns = lookup(row.data, column)
        first = next((t for t in turns if isinstance(t, dict)), None) if isinstance(turns, list) else None
        if first is not None:
            return (
                Layout("openai", columns(), OPENAI_TAGS) if "role" in first else Layout("sharegpt", columns(), Tags())
            )
    return Layout("sharegpt", columns(), Tags())


def key_columns(layout: Layout) -> dict[str, str]:
    """The parts that every row of a layout must have, with their columns."""
    if layout.formatting != "alpaca":
        parts = ["messages"]
    else:
        parts = ["prompt"] if layout.kind in ("text", "preference") else ["prompt", "response"]
    parts += ["chosen", "rejected"] if layout.ranking else []
    return {part: column for part in parts if (column := getattr(layout.columns, part))}


def used_columns(layout: Layout) -> dict[str, str]:
    """The columns that reading a row by ``layout`` looks at, by part."""
    if layout.formatting == trl.FORMATTING:
        skipped = frozenset({"prompt"})
    elif layout.formatting != "alpaca":
        skipped = _SIDE_BY_SIDE
    elif layout.kind == "text":
        skipped = frozenset(COLUMN_KEYS) - {"prompt"}
    else:
        skipped = frozenset({"messages"})
    named = {f.name: getattr(layout.columns, f.name) for f in fields(Columns)}
    return {part: column for part, column in named.items() if column and part not in skipped}


def describe_format(layout: Layout) -> str:
    """The format and what its rows become, e.g. ``alpaca (chat)``."""
    return f"{layout.formatting} ({layout.kind})"


_MISSING = object()
_INDEX = re.compile(r"-?[0-9]{1,9}")


def lookup(data: Mapping[str, Any], name: str, default: Any = None, *, steps: Sequence[str] | None = None) -> Any:
    """The value of a column. ``a.b`` reaches into the object ``a``, ``a.0`` and ``a.-1`` into the list ``a``, where no
    column is called that itself. ``steps`` are those of ``name`` where keys have dots in them.
    """
    if name in data:
        return data[name]
    return follow(data, steps or name.split("."), default) if "." in name else default


def follow(value: Any, steps: Iterable[str], default: Any = None) -> Any:
    """What ``steps`` lead to from ``value``: keys of objects, and indexes of lists (from the end where negative)."""
    for step in steps:
        if isinstance(value, Mapping):
            if step not in value:
                return default
            value = value[step]
        elif isinstance(value, list) and _INDEX.fullmatch(step) and -len(value) <= int(step) < len(value):
            value = value[int(step)]
        else:
            return default
    return value


@dataclass
class ColumnWatch:
    """Which columns were met, and which of those asked for were not yet; made to look at every row."""

    wanted: set[str]
    met: dict[str, None]

    @classmethod
    def of(cls, mapping: Mapping[str, str]) -> ColumnWatch:
        return cls(set(mapping.values()), {})

    def look(self, data: Mapping[str, Any]) -> None:
        """Take note of one row."""
        if not data.keys() <= self.met.keys():
            self.met.update(dict.fromkeys(data))
        if self.wanted:
            self.wanted -= {name for name in self.wanted if lookup(data, name, _MISSING) is not _MISSING}

    def check(self, where: str, flag: str = "--map", hint: str = "") -> None:
        """Raise ``UsageError`` with the columns there are and the nearest one, where one asked for was never met."""
        if self.wanted and self.met:
            name = min(self.wanted)
            close = nearest(name, self.met)
            hint += f"Nearest: {', '.join(close)}. " if close else ""
            raise UsageError(
                f'{flag} names the column "{name}", and no row has it',
                where=where,
                mend=f"{hint}Columns: {_listed(self.met)}.",
            )


def _listed(names: Iterable[str]) -> str:
    """Names for an error; of very many, the first."""
    shown = list(names)
    more = f" and {len(shown) - MOST_NAMES:,} more" if len(shown) > MOST_NAMES else ""
    return ", ".join(shown[:MOST_NAMES]) + more


def reach(data: Mapping[str, Any], names: Iterable[str]) -> Mapping[str, Any]:
    """``data`` with the dotted ``names`` as columns of their own."""
    found = {
        name: value for name in names if name not in data and (value := lookup(data, name, _MISSING)) is not _MISSING
    }
    return {**data, **found} if found else data
