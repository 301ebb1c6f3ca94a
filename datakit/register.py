"""A file and the meaning of its columns, entered into dataset_info.json once its own rows have passed as a check."""

from __future__ import annotations

import glob
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

from datakit.layout import ALIASES, AUTO, PARTS, describe_format, resolve_layout, used_columns
from datakit.outcome import Outcome
from datakit.write import family
from registry.datasets import (
    COLUMN_KEYS,
    FILE_NAME,
    FORMATTINGS,
    TAG_KEYS,
    Columns,
    Layout,
    Tags,
    parse_entry,
    read_dataset_info,
    write_entry,
)
from registry.errors import RowFault, UsageError, did_you_mean, nearest
from registry.formats import READERS
from registry.rows import BadRow, Row, read_rows
from registry.sources import STDIN

log = logging.getLogger("tunekit")

CHECKED_ROWS = 1000  # rows that must become records before the entry is written
_DEFAULTS = Columns()


def register_dataset(
    src: str | Path,
    name: str,
    dataset_dir: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    formatting: str | None = None,
    ranking: bool = False,
    replace: bool = False,
) -> Outcome:
    """Write the entry ``name`` for the file or folder ``src``; rows in and out are those that were checked.

    Columns, tags and formatting are read off the rows where they are not given. The same entry again changes
    nothing. ``details`` hold ``entry``, ``path`` (of dataset_info.json) and ``changed``.
    Raises ``UsageError`` where no row becomes a record, a column is missing, or the name is taken.
    """
    started = time.monotonic()
    if not name.strip() or "," in name:
        raise UsageError(f'"{name}" cannot be a name: LLaMA-Factory splits lists of names at commas', where="--name")
    dataset_dir = Path(dataset_dir)
    if not Path(src).exists() and (str(src) == STDIN or glob.has_magic(str(src))):
        raise UsageError("an entry names one file or one folder", where=str(src))
    checked = list(islice(read_rows([src]), CHECKED_ROWS))
    readable = [row for row in checked if isinstance(row, Row)]
    if not readable:
        raise UsageError(f"no row can be read: {checked[0].reason}", where=checked[0].where)  # type: ignore[union-attr]
    met = dict.fromkeys(column for row in readable for column in row.data)
    _check_columns(columns or {}, met)
    _check_tags(tags or {})
    layout = _layout(readable, met, columns or {}, tags or {}, formatting, ranking)
    entry = build_entry(layout, file_name(Path(src), dataset_dir))
    parsed = parse_entry(name, entry, dataset_dir)
    for warning in parsed.warnings:
        log.warning("%s", warning)
    rejected = _check_rows(checked, parsed.layout)
    path = dataset_dir / FILE_NAME
    known = read_dataset_info(dataset_dir) if path.exists() else {}
    changed = known.get(name) != entry
    if changed:
        write_entry(name, entry, dataset_dir, replace=replace)
        log.info('%s: "%s" is registered as %s', path, name, describe_format(parsed.layout))
    else:
        log.info('%s: "%s" is registered like this already; nothing changed', path, name)
    return Outcome(
        "register",
        rows_in=len(checked),
        rows_out=len(checked) - rejected.total(),
        rejected=dict(rejected.most_common()),
        seconds=time.monotonic() - started,
        details={"entry": entry, "path": str(path), "changed": changed},
    )


def _check_columns(given: Mapping[str, str], met: Mapping[str, Any]) -> None:
    """Raise ``UsageError`` for parts that are not known and columns that no row has."""
    for key, column in given.items():
        if key not in COLUMN_KEYS and key not in ALIASES:
            mend = f"{did_you_mean(key, COLUMN_KEYS)} Known: {', '.join(COLUMN_KEYS)}.".lstrip()
            raise UsageError(f'"{key}" is not a part of a row', where="--columns", mend=mend)
        if column not in met:
            close = nearest(column, met)
            hint = f"Nearest: {', '.join(close)}. " if close else ""
            raise UsageError(
                f'no row has a column "{column}"',
                where=f"--columns {key}={column}",
                mend=f"{hint}Columns: {', '.join(met)}.",
            )


def _check_tags(given: Mapping[str, str]) -> None:
    for key in given:
        if key not in TAG_KEYS:
            mend = f"{did_you_mean(key, TAG_KEYS)} Known: {', '.join(TAG_KEYS)}.".lstrip()
            raise UsageError(f'unknown tag "{key}"', where="--tags", mend=mend)


def _layout(
    rows: Sequence[Row],
    met: Mapping[str, Any],
    own: Mapping[str, str],
    tags: Mapping[str, str],
    formatting: str | None,
    ranking: bool,
) -> Layout:
    """What the rows look like, with what the options say on top. Columns that no row has are not named."""
    if formatting is not None and formatting not in FORMATTINGS:
        mend = f"{did_you_mean(formatting, FORMATTINGS)} Known: {', '.join(FORMATTINGS)}.".lstrip()
        raise UsageError(f'unknown formatting "{formatting}"', where="--formatting", mend=mend)
    parts = {key: column for key, column in own.items() if key in PARTS}
    layout = resolve_layout(formatting or AUTO, parts, rows, flag="--columns")
    assert layout is not None  # it is only None where there is no row
    media = {key: column for key, column in own.items() if key not in PARTS}
    there = {part: column if column in met else None for part, column in asdict(layout.columns).items()}
    if formatting is None and layout.formatting == "openai" and not any(_calls_tools(row.data, layout) for row in rows):
        # LLaMA-Factory's "openai" adds words of its own to the system prompt of such rows; sharegpt's tags do as well.
        layout = replace(layout, formatting="sharegpt")
    return replace(
        layout,
        formatting=formatting or layout.formatting,
        columns=Columns(**(there | media)),
        tags=replace(layout.tags, **tags),
        ranking=ranking or layout.ranking,
    )


def _calls_tools(row: Mapping[str, Any], layout: Layout) -> bool:
    messages = row.get(layout.columns.messages or "")
    return isinstance(messages, list) and any(isinstance(m, dict) and m.get("tool_calls") for m in messages)


def build_entry(layout: Layout, file: str) -> dict[str, Any]:
    """An entry with LLaMA-Factory's keys, defaults left out only where all of them hold.

    Once ``columns`` or ``tags`` is there, what it does not list is off, so each is written in full or not at all.
    """
    entry: dict[str, Any] = {"file_name": file}
    if layout.formatting != "alpaca":
        entry["formatting"] = layout.formatting
    if layout.ranking:
        entry["ranking"] = True
    used = used_columns(layout)
    if used != used_columns(replace(layout, columns=_DEFAULTS)):
        entry["columns"] = used
    if layout.formatting != "alpaca" and layout.tags != Tags():
        entry["tags"] = {f.name: tag for f in fields(Tags) if (tag := getattr(layout.tags, f.name)) is not None}
    return entry


def file_name(src: Path, dataset_dir: Path) -> str:
    """``src`` as an entry names it: relative to ``dataset_dir`` within the folder that holds both, else absolute."""
    path, folder = src.resolve(), dataset_dir.resolve()
    if path.is_relative_to(folder):
        return path.relative_to(folder).as_posix()
    if folder.parent != Path(folder.anchor) and path.is_relative_to(folder.parent):
        return (Path("..") / path.relative_to(folder.parent)).as_posix()
    return path.as_posix()


def _check_rows(rows: Sequence[Row | BadRow], layout: Layout) -> Counter[str]:
    """How many of ``rows`` become no record, by reason. Raises ``UsageError`` where that is all of them."""
    rejected: Counter[str] = Counter()
    first: str | None = None
    for row in rows:
        try:
            if isinstance(row, BadRow):
                raise RowFault("", row.reason)
            READERS[layout.formatting](row.data, layout)
        except RowFault as fault:
            first = first or f"row {row.number}, {fault if fault.field else fault.reason}"
            rejected[family(fault.field, fault.reason)] += 1
    if rejected.total() == len(rows):
        raise UsageError(
            f"none of the first {len(rows):,} rows can be read as {describe_format(layout)}; {first}",
            where=rows[0].file,
            mend="Set --formatting, --columns or --tags as the rows are, or convert them first: datakit convert --to alpaca",
        )
    if rejected:
        log.warning(
            "%s of the first %s rows cannot be used, e.g. %s. See all: datakit validate %s",
            f"{rejected.total():,}", f"{len(rows):,}", first, rows[0].file,
        )  # fmt: skip
    return rejected
