"""The store as a run sees it: what was paid for is looked up, and what comes in is kept."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from datakit.augment.answer import Stored
from datakit.augment.store.faults import SQLITE_ERRORS, told
from datakit.augment.store.layout import SELECT, open_to_read, read_about
from datakit.augment.store.rows import KEY, Row, from_row
from datakit.augment.store.writer import Writer

log = logging.getLogger("tunekit")

MOST_AT_ONCE = 500  # keys in one query


class AnswerStore:
    """The answers in one file, which need not exist yet: the first write makes it, and reading changes no byte of it.

    All methods may be called from any thread. Every one of them raises ``UsageError`` where the file is damaged, no
    store, or of another format.
    """

    def __init__(self, path: str | Path, *, note: str | None = None) -> None:
        """``note`` is a line about where the answers come from, put down with the first write."""
        self.path = Path(path)
        self._spoilt: set[bytes] = set()
        self._writer = Writer(self.path, note=note, spoilt=self._spoilt)
        self._gate = threading.Lock()
        self._reader: sqlite3.Connection | None = None
        self._closed = False

    @property
    def num_spoilt(self) -> int:
        """Answers met so far that do not match their checksum, and were not asked for again yet."""
        return len(self._spoilt)

    @property
    def num_commits(self) -> int:
        """How often answers went to the disk together."""
        return self._writer.num_commits

    def get(self, key: str) -> Stored | None:
        """The answer or refusal kept for a request (``Request.key``), once it is durable.

        One that does not match its checksum counts as not there: the disk changed it, so it has to be bought again.
        """
        wanted = bytes.fromhex(key)
        rows = self._read(f"{SELECT} WHERE key = ?", (wanted,))
        return self._sound(wanted, rows[0]) if rows else None

    def get_many(self, keys: Iterable[str]) -> dict[str, Stored]:
        """What is kept for ``keys``, by key; those that are not there are left out."""
        wanted = [bytes.fromhex(key) for key in keys]
        found: dict[str, Stored] = {}
        for start in range(0, len(wanted), MOST_AT_ONCE):
            some = wanted[start : start + MOST_AT_ONCE]
            for row in self._read(f"{SELECT} WHERE key IN ({', '.join('?' * len(some))})", some):
                stored = self._sound(row[KEY], row)
                if stored:
                    found[stored.key] = stored
        return found

    def put(self, stored: Stored, done: Callable[[BaseException | None], None]) -> None:
        """Keep one answer; returns at once.

        ``done(None)`` is called in the writer's thread when a power cut can no longer take it away, ``done(error)`` when
        it could not be written: a ``StoppedError`` on a full disk, a ``UsageError`` for a store that may not be
        written. After one error every further answer gets the same at once. An answer replaces what is there under its
        key, a refusal only another refusal. Raises ``ValueError`` after ``close``.
        """
        self._writer.put(stored, done)

    def ensure_writable(self) -> None:
        """Keep other runs out, and make sure that answers can be kept before any is paid for.

        Raises ``UsageError`` where another run is at work or the file or folder is read-only, ``StoppedError`` where
        the disk is full.
        """
        with self._gate:
            self._open()  # whatever is wrong with the file is told first
        self._writer.prepare()

    def count(self) -> int:
        """How many answers and refusals are durable."""
        rows = self._read("SELECT count(*) FROM answers")
        return int(rows[0][0]) if rows else 0

    def about(self) -> dict[str, str]:
        """What the file says of itself: ``created`` (seconds since 1970), ``tool``, and ``note`` where it has one."""
        with self._gate:
            try:
                reader = self._open()
                return read_about(reader) if reader else {}
            except SQLITE_ERRORS as error:
                raise told(error, self.path) from error

    def close(self) -> None:
        """Write what is queued, make the file complete in itself, and let other runs in. May be called again."""
        with self._gate:
            self._closed = True
            if self._reader is not None:
                self._reader.close()
                self._reader = None
        self._writer.close()

    def __enter__(self) -> AnswerStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, query: str, values: Iterable[bytes] = ()) -> list[Row]:
        """All rows at once: a query left open would keep the WAL from being merged."""
        with self._gate:
            try:
                reader = self._open()
                return reader.execute(query, tuple(values)).fetchall() if reader else []
            except SQLITE_ERRORS as error:
                raise told(error, self.path) from error

    def _open(self) -> sqlite3.Connection | None:
        if self._closed:
            raise ValueError("this store is closed")
        if self._reader is None:
            self._reader = open_to_read(self.path)
        return self._reader

    def _sound(self, wanted: bytes, row: Row) -> Stored | None:
        """The row's answer if it is the one wanted (a damaged index may lead to another) and as it was written."""
        stored = from_row(row) if row[KEY] == wanted else None
        if stored is None and wanted not in self._spoilt:
            self._spoilt.add(wanted)
            if len(self._spoilt) == 1:
                log.warning(
                    "%s: the disk changed the answer %s; it, and any other like it, is asked for again",
                    self.path,
                    wanted.hex(),
                )
        return stored
