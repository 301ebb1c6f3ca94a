"""What is known of batches at the servers, in a file beside the store, so that a run that is killed finds them again.

A batch is noted before it is made, with a tag that goes to the server with it. Whatever moment a run is killed at, the
next one either has the batch's id, or looks for the tag in the server's list. The notes hold each request as well: an
answer goes to the store with its request, also where nobody asks for it any more.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from datakit.augment.batch.lines import request_of
from datakit.augment.request import Request
from datakit.augment.store.faults import NO_ROOM, SQLITE_ERRORS
from registry.errors import StoppedError, UsageError

ENDING = ".batches"
VERSION = 1
_TABLES = (
    "CREATE TABLE batches (tag TEXT PRIMARY KEY, id TEXT NOT NULL, provider TEXT NOT NULL, url TEXT NOT NULL, "
    "input TEXT NOT NULL, created REAL NOT NULL)",
    "CREATE TABLE requests (tag TEXT NOT NULL, key TEXT NOT NULL, request BLOB NOT NULL, PRIMARY KEY (tag, key)) "
    "WITHOUT ROWID",
    f"PRAGMA user_version = {VERSION}",
)


@dataclass(frozen=True, slots=True)
class Note:
    """One batch: the ``tag`` it was made with, its ``id`` at the server ("" while that is not known), the address and
    the input file, and when it was made (seconds since 1970). No key of an account."""

    tag: str
    id: str
    provider: str
    url: str
    input: str
    created: float


def notes_path(store: Path) -> Path:
    """The file of notes that belongs to a store, the same by whatever link the store is reached."""
    real = store.resolve()
    return real.with_name(real.name + ENDING)


class Notes:
    """The notes of one store, held by one run at a time. Not safe for several threads.

    Every change is durable when its method returns. All methods raise ``UsageError`` where the file cannot be read or
    written, and ``StoppedError`` where the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None

    def all(self) -> list[Note]:
        """Every batch that is noted, the oldest first."""
        if self._connection is None and not self.path.exists():
            return []
        with self._open() as connection:
            rows = connection.execute("SELECT tag, id, provider, url, input, created FROM batches ORDER BY created")
            return [Note(*row) for row in rows]

    def keys(self, tag: str) -> set[str]:
        """The keys of a batch's requests."""
        with self._open() as connection:
            return {key for (key,) in connection.execute("SELECT key FROM requests WHERE tag = ?", (tag,))}

    def request(self, tag: str, key: str) -> Request:
        """One request of a batch. Raises ``KeyError`` where it has none such."""
        with self._open() as connection:
            found = connection.execute("SELECT request FROM requests WHERE tag = ? AND key = ?", (tag, key)).fetchone()
        if found is None:
            raise KeyError(key)
        return request_of(zlib.decompress(found[0]))

    def intend(self, note: Note, requests: Iterable[Request]) -> None:
        """A batch is about to be made."""
        rows = ((note.tag, request.key, zlib.compress(request.spelled, 1)) for request in requests)
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?)",
                (note.tag, note.id, note.provider, note.url, note.input, note.created),
            )
            connection.executemany("INSERT INTO requests VALUES (?, ?, ?)", rows)
            connection.execute("COMMIT")

    def know(self, tag: str, batch: str) -> None:
        """A batch was made, and this is its id."""
        with self._open() as connection:
            connection.execute("UPDATE batches SET id = ? WHERE tag = ?", (batch, tag))

    def forget(self, tag: str) -> None:
        """All of a batch is in the store, or it never was. With the last one the file goes."""
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM requests WHERE tag = ?", (tag,))
            connection.execute("DELETE FROM batches WHERE tag = ?", (tag,))
            connection.execute("COMMIT")
            (left,) = connection.execute("SELECT count(*) FROM batches").fetchone()
        if not left:
            self.close()
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; it is opened again where it is needed."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._connection is None:
                self._connection = self._connect()
            try:
                yield self._connection
            except BaseException:
                if self._connection is not None and self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except (*SQLITE_ERRORS, zlib.error, OSError) as error:
            raise self._told(error) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if not version:
                connection.execute("BEGIN IMMEDIATE")
                for table in _TABLES:
                    connection.execute(table)
                connection.execute("COMMIT")
            elif version != VERSION:
                raise UsageError(
                    f"these are notes of format {version}, and this version of tunekit knows format {VERSION}",
                    where=str(self.path),
                    mend="Take the version of tunekit that wrote them.",
                )
        except BaseException:
            connection.close()
            raise
        return connection

    def _told(self, error: Exception) -> Exception:
        full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        if full or getattr(error, "errno", None) in NO_ROOM:
            return StoppedError(
                "there is no room to note a batch before it is made",
                where=str(self.path),
                mend="Free some space and run the same command again.",
            )
        return UsageError(
            f"the notes about batches at the server cannot be read or written ({error})",
            where=str(self.path),
            mend="Make the file writable. Without it (remove it) those batches are forgotten, and their requests are "
            "paid for again.",
        )
