"""A file and the meaning of its columns, entered into dataset_info.json once its own rows have proven the entry."""

from __future__ import annotations

import glob
import logging
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from datakit.layout import describe_format
from datakit.outcome import Outcome
from datakit.register.books import write_note
from datakit.register.entry import build_entry, infer_layout, place_of
from datakit.register.proof import Reading, check_loaded, check_reading, encode_records, read_by, tell
from datakit.register.spread import spread_rows
from registry.datasets import FILE_NAME, DatasetEntry, Layout, find_entry, parse_entry, read_dataset_info, write_entry
from registry.errors import UsageError
from registry.manifest import Ledger
from registry.remote import is_remote
from registry.rows import BadRow, Row, read_rows
from registry.sources import COMPRESSIONS, STDIN, container_of, expand_sources

log = logging.getLogger("tunekit")

FIRST_ROWS = 1000  # rows from the start that must become records before the entry is written
SPREAD_ROWS = 200  # and from all over the rest


def register_dataset(
    src: str | Path,
    name: str,
    dataset_dir: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    formatting: str | None = None,
    ranking: bool = False,
    model: Path | None = None,
    template: str | None = None,
    replace: bool = False,
) -> Outcome:
    """Write the entry ``name`` for the file, folder or address ``src``; rows in and out are those that were looked at.

    Columns, tags and formatting are read off the rows where they are not given. The entry is proven first: rows from
    the start and from all over are read by it and encoded with the tokenizer of ``model`` and ``template`` (without a
    model rendered). The same entry again changes nothing. ``details`` hold ``entry``, ``path`` (of dataset_info.json),
    ``changed``, ``inferred`` and ``proof``.
    Raises ``UsageError`` where no row becomes a record, a column is missing, or the name is taken.
    """
    started = time.monotonic()
    src, dataset_dir = _source(src), Path(dataset_dir)
    if not name.strip() or "," in name:
        raise UsageError(f'"{name}" cannot be a name: LLaMA-Factory splits lists of names at commas', where="--name")
    place = place_of(src, dataset_dir)
    files = expand_sources([src])
    rows = read_rows(files)
    first = list(islice(rows, FIRST_ROWS))
    has_more = next(rows, None) is not None  # at the end of a file its reader tells what is wrong with it as a whole
    spread = list(spread_rows(files, skip=FIRST_ROWS, count=SPREAD_ROWS)) if has_more else []
    others = [row for _, row in spread if isinstance(row, Row)]
    layout, inferred = infer_layout(_readable(first), columns or {}, tags or {}, formatting, ranking, others)
    for line in inferred:
        log.info("inferred: %s", line)
    entry = build_entry(layout, place)
    parsed = parse_entry(name, entry, dataset_dir)
    for warning in (*parsed.warnings, *_for_other_readers(src, files)):
        log.warning("%s", warning)
    reading = _read(parsed.layout, src, first, spread)
    encoding = encode_records(reading.records, model, template)
    tell(reading, len(first), encoding)
    options = {"src": src, "columns": dict(columns or {}), "tags": dict(tags or {}), "formatting": formatting,
               "ranking": ranking, "model": str(model) if model else None, "template": template}  # fmt: skip
    proof = {"first_rows": len(first), "spread_rows": reading.num_rows - len(first), "encoding": encoding}
    changed = _enter(parsed, entry, files, replace)
    ledger = Ledger(reading.num_rows, reading.num_read, reading.rejected, by_file=reading.by_file, started=started)
    write_note(name, options, files, ledger, {"entry": entry, "proof": proof}, dataset_dir)
    return Outcome(
        "register",
        rows_in=reading.num_rows,
        rows_out=reading.num_read,
        rejected=dict(reading.rejected.most_common()),
        seconds=time.monotonic() - started,
        details={
            "entry": entry,
            "path": str(dataset_dir / FILE_NAME),
            "changed": changed,
            "inferred": inferred,
            "proof": proof,
        },
    )


def _source(src: str | Path) -> str:
    text = str(src)
    if text == STDIN or (not is_remote(text) and not Path(text).exists() and glob.has_magic(text)):
        raise UsageError("an entry names one file or one folder", where=text)
    return text


def _readable(rows: list[Row | BadRow]) -> list[Row]:
    readable = [row for row in rows if isinstance(row, Row)]
    if not readable:
        bad = next(row for row in rows if isinstance(row, BadRow))
        raise UsageError(f"no row can be read: {bad.reason}", where=bad.where)
    return readable


def _for_other_readers(src: str, files: list[str]) -> list[str]:
    """What trainkit reads and LLaMA-Factory 0.9.5 does not (data/data_utils.py, FILEEXT2TYPE)."""
    packed = [file for file in files if Path(file).suffix.lower() in COMPRESSIONS or container_of(file) == "tsv"]
    told = [f"{packed[0]} is read here and by trainkit, but not by LLaMA-Factory"] if packed else []
    if Path(src).is_dir():
        # It takes every name in the folder for a file of rows, hidden ones as well.
        known = {Path(file).name for file in files}
        others = sorted(entry.name for entry in Path(src).iterdir() if entry.name not in known)
        if others:
            named = ", ".join(others[:3]) + (" …" if len(others) > 3 else "")
            told.append(f"LLaMA-Factory would read these in {src} as rows as well, so move them elsewhere: {named}")
    return told


def _read(
    layout: Layout, src: str, first: Sequence[Row | BadRow], spread: Sequence[tuple[str, Row | BadRow]]
) -> Reading:
    """Rows from the start and from all over, read by the entry. Raises ``UsageError`` where none becomes a record."""
    reading = Reading()
    read_by(layout, [(row.where, row) for row in first], reading)
    read_by(layout, spread, reading)
    check_reading(reading, layout, src)
    return reading


def _enter(parsed: DatasetEntry, entry: Mapping[str, Any], files: list[str], replace: bool) -> bool:
    """Write the entry where it is not there already, and load it back; whether anything changed."""
    path = parsed.folder / FILE_NAME
    known = read_dataset_info(parsed.folder) if path.exists() else {}
    changed = known.get(parsed.name) != entry
    if changed:
        write_entry(parsed.name, entry, parsed.folder, replace=replace)
        log.info('%s: "%s" is registered as %s', path, parsed.name, describe_format(parsed.layout))
    else:
        log.info('%s: "%s" is registered like this already; nothing changed', path, parsed.name)
    check_loaded(find_entry(parsed.name, parsed.folder), parsed, files)
    return changed
