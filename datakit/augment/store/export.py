"""Answers of one store into another, or as JSON lines; also what can be saved of a damaged one."""

from __future__ import annotations

import contextlib
import gzip
import logging
import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from datakit.augment.store.faults import SQLITE_ERRORS, damaged, told
from datakit.augment.store.layout import PUT, SELECT, open_to_write, read_about, reading, set_up, wal_path
from datakit.augment.store.lock import hold
from datakit.augment.store.rows import KEY, Row, from_row
from datakit.augment.store.salvage import Tally, whole_rows
from datakit.augment.store.show import answer_as_json
from datakit.outcome import Outcome
from registry.atomic import atomic_file
from registry.errors import UsageError
from registry.manifest import Ledger, build_manifest, write_manifest

log = logging.getLogger("tunekit")

ENDINGS = (".jsonl", ".jsonl.gz", ".sqlite")
SPOILT = "the answer does not match its checksum"
WriteRow = Callable[[Row], Any]


def export_store(
    store: Path, out: Path, *, keys: Collection[bytes] | None = None, salvage: bool = False, note: str | None = None
) -> Outcome:
    """Write the answers of ``store`` (of ``keys`` only, where given) to ``out``, whole or not at all, and its manifest.

    ``out`` is another store (``.sqlite``; ``note`` is put down in it) or JSON lines (``.jsonl``, ``.jsonl.gz``).
    ``salvage`` reads past what is damaged. Rows that do not match their checksum are left out and counted. Raises
    ``UsageError`` and ``StoppedError``.
    """
    ending = next((ending for ending in ENDINGS if out.name.lower().endswith(ending)), None)
    if ending is None:
        raise UsageError("this ending says nothing of what to write", where=str(out), mend=f"Use {', '.join(ENDINGS)}.")
    if note is not None and ending != ".sqlite":
        raise UsageError("only a store can hold a note", where=str(out), mend="Leave out --note, or use .sqlite.")
    if out.exists() and store.exists() and out.samefile(store):
        raise UsageError("a store cannot be exported over itself", where=str(out), mend="Name another file.")
    ledger = Ledger()
    seen: set[bytes] = set()  # only a damaged file has rows twice: in pages that it no longer uses
    with _read(store, salvage) as (rows, about):
        about = {**about, **({"note": note} if note is not None else {})}
        writer = _as_store(out, about) if ending == ".sqlite" else _as_lines(out, packed=ending.endswith(".gz"))
        try:
            with writer as write:
                for row in rows:
                    ledger.read(str(store))
                    if row is None:
                        ledger.rejected[SPOILT] += 1
                    elif keys is not None and row[KEY] not in keys:
                        ledger.filtered["--keys"] += 1
                    elif row[KEY] in seen:
                        ledger.filtered["there twice"] += 1
                    else:
                        if salvage:
                            seen.add(row[KEY])
                        write(row)
                        ledger.rows_out += 1
                if salvage and not ledger.rows_out and not ledger.filtered:
                    raise damaged(store, "nothing in it looks like an answer")
        except OSError as error:
            raise told(error, out) from error
    if ledger.rejected:
        log.warning("%s: %s: left out %s times", store, SPOILT, f"{ledger.num_rejected:,}")
    options = {"keys": len(keys) if keys is not None else None, "salvage": salvage, "note": note}
    write_manifest(out, build_manifest("store export", options, [str(store)], ledger, [out]))
    return Outcome(
        command="store export",
        rows_in=ledger.rows_in,
        rows_out=ledger.rows_out,
        rejected=dict(ledger.rejected),
        filtered=dict(ledger.filtered),
        outputs=(out,),
        seconds=ledger.seconds,
        details={"bytes": out.stat().st_size},
    )


@contextmanager
def _read(store: Path, salvage: bool) -> Iterator[tuple[Iterator[Row | None], dict[str, str]]]:
    """Rows, None for one that is spoilt, and what the store says of itself (of a damaged one, where that can be read)."""
    if not salvage:
        with reading(store) as connection:
            yield _rows(connection, store), read_about(connection)
        return
    about: dict[str, str] = {}
    with contextlib.suppress(UsageError), reading(store) as connection:
        about = read_about(connection)
    yield _saved(store), about


def _rows(connection: sqlite3.Connection, store: Path) -> Iterator[Row | None]:
    try:
        for row in connection.execute(f"{SELECT} ORDER BY id"):
            yield row if from_row(row) else None
    except SQLITE_ERRORS as error:  # told here, where it is known of which of the two files it is
        raise told(error, store) from error


def _saved(store: Path) -> Iterator[Row | None]:
    tally = Tally()
    try:
        yield from whole_rows(store, tally)
    except OSError as error:
        raise told(error, store) from error
    for _ in range(tally.spoilt):
        yield None


@contextmanager
def _as_store(out: Path, about: dict[str, str]) -> Iterator[WriteRow]:
    """Rows into a new store, which takes the place of ``out`` when the block ends well."""
    with _not_at_work(out), atomic_file(out) as handle:
        path = Path(handle.name)
        try:
            connection = open_to_write(path, create=False)
            # Nobody sees the file before it is whole and on the disk, so it needs no journal.
            connection.execute("PRAGMA journal_mode = OFF").fetchall()
            connection.execute("PRAGMA synchronous = OFF")
            try:
                set_up(connection, path, about)
                connection.execute("BEGIN")
                yield lambda row: connection.execute(PUT, row)
                connection.execute("COMMIT")
            finally:
                connection.close()
        except SQLITE_ERRORS as error:
            raise told(error, out) from error


@contextmanager
def _not_at_work(out: Path) -> Iterator[None]:
    """Raise ``UsageError`` where ``out`` is a store that a run has open, or that a killed run left unmerged: its WAL would
    be taken for one of the new file."""
    with contextlib.ExitStack() as held:
        if out.exists():
            held.callback(hold(out).release)
            wal = wal_path(out.resolve())
            if wal.exists() and wal.stat().st_size:
                raise UsageError(
                    "the run that wrote this store did not close it", where=str(out), mend="Name another file."
                )
        yield


@contextmanager
def _as_lines(out: Path, *, packed: bool) -> Iterator[WriteRow]:
    with atomic_file(out) as handle, contextlib.ExitStack() as stack:
        write_bytes = handle.write
        if packed:  # without name and time, so that the same answers give the same bytes
            packer = gzip.GzipFile("", "wb", compresslevel=6, fileobj=handle, mtime=0)
            write_bytes = stack.enter_context(packer).write

        def write(row: Row) -> None:
            stored = from_row(row)
            if stored is not None:  # it was looked at when it was read
                write_bytes(orjson.dumps(answer_as_json(stored), option=orjson.OPT_APPEND_NEWLINE))

        yield write
