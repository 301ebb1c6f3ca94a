"""Rows of any container and format into another: renamed and filled in, or through records into a training format."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from datakit.layout import AUTO, ColumnWatch, describe_format, lookup, peek, reach, resolve_layout, used_columns
from datakit.outcome import Outcome
from datakit.summary import with_progress
from datakit.write import STDOUT, Sink, open_sink
from registry.datasets import Layout
from registry.errors import RowFault, UsageError, did_you_mean
from registry.formats import LAYOUTS, READERS, WRITERS
from registry.formats.fields import optional_text
from registry.rows import BadRow, Row, read_rows
from registry.sources import expand_sources

log = logging.getLogger("tunekit")

KEEP = "keep"
Change = Callable[[Row], Mapping[str, Any]]
_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][\w.-]*)\s*\}\}")
_PLACEHOLDER_BYTES = re.compile(_PLACEHOLDER.pattern.encode())
MOST_PLACEHOLDERS = 5  # names listed in the warning
_MESSAGE_KEYS = ("tool_calls", "tool_call_id")
_MISSING = object()


def convert_rows(
    src: Iterable[str | Path],
    out: str | Path,
    *,
    from_format: str = AUTO,
    to_format: str = KEEP,
    mapping: Mapping[str, str] | None = None,
    fill: Mapping[str, str] | None = None,
    limit: int | None = None,
    rejects: Path | None = None,
    strict: bool = False,
) -> Outcome:
    """Write the rows of ``src`` to ``out`` in ``to_format``; rows that cannot be become rejects, with their reason.

    ``mapping`` renames columns for ``keep`` (new name → column) and tells the parts of a row for the formats
    (part → column). ``fill`` replaces ``{{name}}`` in every text. ``limit`` counts rows read. The exit code is 1
    where no row is left, or any was rejected under ``strict``.
    Raises ``UsageError`` for what is wrong as a whole: sources, formats, mapped columns that no row has.
    """
    mapping, fill = dict(mapping or {}), dict(fill or {})
    _check_formats(from_format, to_format)
    files = expand_sources(src)
    head, rows = peek(read_rows(files), AUTO if to_format != KEEP else KEEP)
    layout = resolve_layout(from_format, mapping, head) if to_format != KEEP else None
    left_out = LeftOut(layout, mapping) if layout else None
    change = _change_of(layout, to_format, mapping, fill)
    if layout:
        log.info("reading as %s: %s", describe_format(layout), _spelled_parts(layout, head))
    watch = ColumnWatch.of(mapping)
    unfilled: Counter[str] = Counter()
    with open_sink(out, rejects, files) as sink, closing(with_progress(islice(rows, limit), "converting")) as passing:
        for row in passing:
            _pass_on(row, sink, change, watch, left_out, unfilled)
        watch.check(", ".join(files))
        details = {
            "format": describe_format(layout) if layout else None,
            "left_out": left_out.names(watch.met) if left_out else [],
            "placeholders_left": dict(unfilled.most_common()),
        }
        options = {"from": from_format, "to": to_format, "map": mapping, "fill": fill, "limit": limit, "strict": strict}
        outcome = sink.close_books("convert", options, files, details)
    _tell(outcome, str(out) == STDOUT)
    failed = not outcome.rows_out or (strict and outcome.num_rejected)
    return replace(outcome, exit_code=1 if failed else 0)


def _check_formats(from_format: str, to_format: str) -> None:
    for flag, name, known in (("--from", from_format, (AUTO, *LAYOUTS)), ("--to", to_format, (KEEP, *WRITERS))):
        if name not in known:
            mend = f"{did_you_mean(name, known)} Known: {', '.join(known)}.".lstrip()
            raise UsageError(f'unknown format "{name}"', where=flag, mend=mend)


def _pass_on(
    row: Row | BadRow, sink: Sink, change: Change, watch: ColumnWatch, left_out: LeftOut | None, unfilled: Counter[str]
) -> None:
    """One row on its way: into the output, or among the rejects."""
    sink.ledger.read(row.file)
    if isinstance(row, BadRow):
        sink.reject(row, "", row.reason)
        return
    watch.look(row.data)
    try:
        line = sink.accept(row, change(row))
    except RowFault as fault:
        sink.reject(row, fault.field, fault.reason)
        return
    except RecursionError:
        sink.reject(row, "row", "the row is nested too deep")
        return
    if b"{{" in line:
        unfilled.update(name.decode() for name in _PLACEHOLDER_BYTES.findall(line))
    if left_out:
        left_out.look(row.data)


def _change_of(layout: Layout | None, to_format: str, mapping: Mapping[str, str], fill: Mapping[str, str]) -> Change:
    """What happens to each row: filled in first, then renamed or taken through a record."""
    if layout is not None:
        reader, writer = READERS[layout.formatting], WRITERS[to_format]
        dotted = [column for column in mapping.values() if "." in column]
        same_shape = layout.formatting == to_format == "alpaca" and layout.kind != "text"

        def through_record(row: Row) -> Mapping[str, Any]:
            data = _filled(row.data, fill) if fill else row.data
            data = reach(data, dotted) if dotted else data
            made = writer(reader(data, layout))
            if same_shape:  # instruction and input need not be joined where both sides keep them apart
                made["instruction"] = optional_text(data, layout.columns.prompt)
                made["input"] = optional_text(data, layout.columns.query)
            return made

        return through_record

    def kept(row: Row) -> Mapping[str, Any]:
        data = _filled(row.data, fill) if fill else row.data
        return _renamed(data, mapping, row.where) if mapping else data

    return kept


def _renamed(data: Mapping[str, Any], mapping: Mapping[str, str], where: str) -> dict[str, Any]:
    """``data`` with mapped columns under their new names, in place; what a dotted name reaches is copied out."""
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


def _filled(value: Any, fill: Mapping[str, str]) -> Any:
    """``value`` with ``{{name}}`` replaced in every text, however deep; names that are not given stay."""
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda m: fill.get(m[1], m[0]), value) if "{{" in value else value
    if isinstance(value, dict):
        return {key: _filled(inner, fill) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, fill) for inner in value]
    return value


class LeftOut:
    """The columns, and keys of messages, that the target format has no place for."""

    def __init__(self, layout: Layout, mapping: Mapping[str, str]) -> None:
        self._layout = layout
        self._used = set(used_columns(layout).values())
        self._partly = {column.split(".")[0] for column in mapping.values() if "." in column}
        self._of_messages: dict[str, None] = {}

    def look(self, data: Mapping[str, Any]) -> None:
        """Take note of what one row's messages hold beside role and content."""
        column = self._layout.columns.messages
        if self._layout.formatting == "alpaca" or column is None:
            return
        tags = self._layout.tags
        known = {tags.role_tag, tags.content_tag, *(_MESSAGE_KEYS if self._layout.formatting == "openai" else ())}
        turns = lookup(data, column) or ()
        for turn in turns:
            if not turn.keys() <= known:
                self._of_messages.update(dict.fromkeys(f"{column}[].{key}" for key in turn if key not in known))
            if turn.get("tool_calls") and turn.get(str(tags.content_tag)):
                self._of_messages[f"{column}[].{tags.content_tag} beside tool_calls"] = None

    def names(self, columns: Iterable[str]) -> list[str]:
        """What is left out of rows that had these ``columns``."""
        whole = [c for c in columns if c not in self._used and c not in self._partly]
        partly = [f"{c} (all but what is mapped)" for c in columns if c in self._partly and c not in self._used]
        return [*whole, *partly, *self._of_messages]


def _spelled_parts(layout: Layout, head: Iterable[Row]) -> str:
    met = [row.data for row in head]
    there = (
        f"{part}={column}"
        for part, column in used_columns(layout).items()
        if any(lookup(data, column, _MISSING) is not _MISSING for data in met)
    )
    return ", ".join(there)


def _tell(outcome: Outcome, to_stdout: bool) -> None:
    """Everything that a reader of the output alone would not see."""
    if outcome.details["left_out"]:
        log.info("left out, as the format has no place for it: %s", ", ".join(outcome.details["left_out"]))
    unfilled = list(outcome.details["placeholders_left"].items())
    if unfilled:
        names = ", ".join(f"{{{{{name}}}}} ×{count:,}" for name, count in unfilled[:MOST_PLACEHOLDERS])
        more = f", and {len(unfilled) - MOST_PLACEHOLDERS} other names" if len(unfilled) > MOST_PLACEHOLDERS else ""
        log.warning("placeholders are left unfilled: %s%s. Fill them with --fill NAME=VALUE.", names, more)
    if to_stdout and outcome.num_rejected and not outcome.rejects_file:
        log.warning("rejected rows are not kept, as rows go to stdout; --rejects FILE keeps them")
    if not outcome.rows_out:
        log.error("no row is left: every one was rejected")
