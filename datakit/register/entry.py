"""One entry of dataset_info.json as the rows ask for it: their layout, with what the options say on top, spelled out."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from datakit.layout import ALIASES, AUTO, PARTS, resolve_layout, used_columns
from datakit.register.roles import infer_tags, messages_column
from registry.datasets import COLUMN_KEYS, FORMATTINGS, TAG_KEYS, Columns, Layout, Tags
from registry.errors import UsageError, known_hint, nearest
from registry.formats import detect, trl
from registry.remote import is_remote
from registry.remote.address import parse_address
from registry.rows import Row

log = logging.getLogger("tunekit")

_DEFAULTS = Columns()


def infer_layout(
    rows: Sequence[Row],
    columns: Mapping[str, str],
    tags: Mapping[str, str],
    formatting: str | None,
    ranking: bool,
    others: Sequence[Row] = (),
) -> tuple[Layout, list[str]]:
    """What the rows look like, with what the options say on top, and what was inferred beyond the usual names.

    ``others`` are rows from all over, which are asked only whether any of them calls a tool.
    Columns that no row has are not named. Raises ``UsageError`` for options that are wrong, and rows of no format.
    """
    met = dict.fromkeys(column for row in rows for column in row.data)
    _check_columns(columns, met)
    _check_tags(tags)
    if formatting is not None and formatting not in FORMATTINGS:
        mend = known_hint(formatting, FORMATTINGS)
        raise UsageError(f'unknown formatting "{formatting}"', where="--formatting", mend=mend)
    parts = {key: column for key, column in columns.items() if key in PARTS}
    told: list[str] = []
    if not parts and formatting in (None, "sharegpt", "openai") and all(detect(row.data) is None for row in rows):
        column = messages_column([row.data for row in rows])
        if column is not None:
            parts["messages"] = column
            told.append(f'the messages are in "{column}"')
    _refuse_conversations(rows, columns)
    layout = resolve_layout(formatting or AUTO, parts, rows, flag="--columns")
    assert layout is not None  # it is only None where there is no row
    found, more = infer_tags([row.data for row in rows], layout, tags)
    media = {key: column for key, column in columns.items() if key not in PARTS}
    there = {part: column if column in met else None for part, column in asdict(layout.columns).items()}
    calls = any(_calls_tools(row.data, layout) for row in (*rows, *others))
    if formatting is None and layout.formatting == "openai" and not calls:
        # LLaMA-Factory's "openai" adds words of its own to the system prompt of such rows; sharegpt's tags do as well.
        layout = replace(layout, formatting="sharegpt")
    layout = replace(
        layout,
        formatting=formatting or layout.formatting,
        columns=Columns(**(there | media)),
        tags=found,
        ranking=ranking or layout.ranking,
    )
    return layout, told + more


def _check_columns(given: Mapping[str, str], met: Mapping[str, Any]) -> None:
    """Raise ``UsageError`` for parts that are not known and columns that no row has."""
    for key, column in given.items():
        if key not in COLUMN_KEYS and key not in ALIASES:
            mend = known_hint(key, COLUMN_KEYS)
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
            mend = known_hint(key, TAG_KEYS)
            raise UsageError(f'unknown tag "{key}"', where="--tags", mend=mend)


def _refuse_conversations(rows: Sequence[Row], columns: Mapping[str, str]) -> None:
    """Rows with whole conversations in chosen and rejected are TRL's; dataset_info.json has no words for them."""
    found = next(((row, seen) for row in rows if (seen := trl.layout_of(row.data)) is not None), None)
    if found is None or columns:
        return
    row, layout = found
    held = "chosen and rejected" if layout.ranking else "prompt and completion"
    target = {"preference": "preference", "feedback": "kto"}.get(layout.kind, "openai")
    raise UsageError(
        f"{held} hold whole conversations, which dataset_info.json cannot describe",
        where=row.where,
        mend=f"Convert them first: datakit convert {row.file} -o FILE --to {target}",
    )


def _calls_tools(row: Mapping[str, Any], layout: Layout) -> bool:
    messages = row.get(layout.columns.messages or "")
    return isinstance(messages, list) and any(isinstance(m, dict) and m.get("tool_calls") for m in messages)


def build_entry(layout: Layout, place: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with LLaMA-Factory's keys, ``place`` first; defaults are left out only where all of them hold.

    Once ``columns`` or ``tags`` is there, what it does not list is off, so each is written in full or not at all.
    """
    entry = dict(place)
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


def place_of(src: str, dataset_dir: Path) -> dict[str, Any]:
    """The keys that tell where the rows lie: a file or folder, a hub's dataset, or a cloud's file. Raises ``UsageError``."""
    if not is_remote(src):
        return {"file_name": file_name(Path(src), dataset_dir)}
    if src.startswith(("hf://", "ms://")):
        return parse_address(src).as_entry()
    if not src.startswith(("s3://", "gs://", "gcs://")):
        raise UsageError("an entry names no file of this kind of address", where=src, mend="Download it first.")
    return {"cloud_file_name": src}


def file_name(src: Path, dataset_dir: Path) -> str:
    """``src`` as an entry names it: relative to ``dataset_dir`` within the folder that holds both, else absolute."""
    # Path.resolve raises RuntimeError where links lead in a circle.
    path, folder = Path(os.path.realpath(src)), Path(os.path.realpath(dataset_dir))
    if path.is_relative_to(folder):
        return path.relative_to(folder).as_posix()
    if folder.parent != Path(folder.anchor) and path.is_relative_to(folder.parent):
        return (Path("..") / path.relative_to(folder.parent)).as_posix()
    return path.as_posix()
