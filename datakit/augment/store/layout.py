"""The SQLite file of a store: its tables and version, and how it is opened to be read or to be written."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from datakit.augment.store.faults import NO_STORE, SQLITE_ERRORS, damaged, not_writable, told
from datakit.augment.store.rows import COLUMNS, STATUS
from registry.errors import UsageError
from registry.manifest import tool_version

APPLICATION_ID = 0x74756E6B  # "tunk", in the header of the file
FORMAT_VERSION = 1
LEAST_BYTES = 512  # the smallest page; SQLite would take a shorter file for an empty one, and write over it
PAGE_BYTES = 16384  # with answers of 2.1 kB, packed, the file is two fifths smaller than with SQLite's own 4096
WAL_BYTES = 4 << 20  # merged into the file when it has grown to this
BUSY_S = 30.0  # how long another program's lock is waited for
ROLLED_BACK_FIRST = 776  # SQLITE_READONLY_ROLLBACK: a writer was killed, and its half-done change must be taken back

# Keys in random order beside rows in the order they came: 200,000 answers of 1.3 kB go in four times as fast as into a
# table that is sorted by key, and take a third of its room. AUTOINCREMENT is not needed: numbers only order.
TABLES = (
    """CREATE TABLE answers (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        created REAL NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        status INTEGER NOT NULL,
        finish TEXT NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        seconds REAL NOT NULL,
        attempts INTEGER NOT NULL,
        packed BLOB NOT NULL,
        checksum BLOB NOT NULL
    )""",
    "CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
)
_NAMES = ", ".join(COLUMNS)
SELECT = f"SELECT {_NAMES} FROM answers"
FIRST_REFUSAL = 300  # Stored.status from here on is no answer
# An answer replaces what is there; a refusal only another refusal.
PUT = (
    f"INSERT INTO answers ({_NAMES}) VALUES ({', '.join('?' * len(COLUMNS))}) ON CONFLICT (key) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in COLUMNS[1:])
    + f" WHERE excluded.{COLUMNS[STATUS]} < {FIRST_REFUSAL} OR answers.{COLUMNS[STATUS]} >= {FIRST_REFUSAL}"
)


def open_to_read(path: Path) -> sqlite3.Connection | None:
    """A connection that changes no byte of the file; None where there is no file, or nothing in it yet.

    Raises ``UsageError`` where the file is no store of this format, is damaged, or cannot be read.
    """
    if not _holds_anything(path):
        return None
    try:
        connection = _connect(path, "immutable=1" if _only_readable(path) else "mode=ro")
        try:
            is_store = check_format(connection, path)
        except sqlite3.OperationalError as error:
            connection.close()
            if error.sqlite_errorcode != ROLLED_BACK_FIRST:
                raise
            _roll_back(path)
            connection = _connect(path, "mode=ro")
            is_store = check_format(connection, path)
    except SQLITE_ERRORS as error:
        raise told(error, path) from error
    if is_store:
        return connection
    connection.close()
    return None


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection for the commands. Raises ``UsageError`` where there is no store, or what is read of it is damaged."""
    connection = open_to_read(path)
    if connection is None:
        what = "is empty" if path.exists() else "there is no such file"
        raise UsageError(what, where=str(path), mend=NO_STORE)
    try:
        yield connection
    except SQLITE_ERRORS as error:
        connection.close()
        raise told(error, path) from error
    finally:
        connection.close()


def open_to_write(path: Path, *, create: bool) -> sqlite3.Connection:
    """A connection that may write; the file is as it was until it does. Raises ``sqlite3.Error`` and ``UsageError``."""
    if _holds_anything(path) and not os.access(
        path, os.W_OK
    ):  # SQLite would open it to be read, and only fail at the first write
        raise not_writable(path, "the file is read-only")
    connection = _connect(path, "mode=rwc" if create else "mode=rw")
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a file that is still empty
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_BYTES // PAGE_BYTES}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")  # else fsync on macOS leaves it to the drive when to write
        check_format(connection, path)
        connection.execute("BEGIN IMMEDIATE")  # fails where another program is writing
        connection.execute("ROLLBACK")
    except BaseException:
        connection.close()
        raise
    return connection


def set_up(connection: sqlite3.Connection, path: Path, about: Mapping[str, str]) -> None:
    """Make the tables where they are not there yet, and put down ``about`` (name → text)."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not check_format(connection, path):
            for table in TABLES:
                connection.execute(table)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
            about = {"created": f"{time.time():.0f}", "tool": f"tunekit {tool_version()}", **about}
        connection.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", list(about.items()))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def check_format(connection: sqlite3.Connection, path: Path) -> bool:
    """True for a store, False for a file without any table; another program's or another format is refused by name."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application == APPLICATION_ID and version == FORMAT_VERSION:
        return True
    if application == APPLICATION_ID:
        mend = "Update tunekit" if version > FORMAT_VERSION else "Take the version of tunekit that wrote it"
        raise UsageError(
            f"this is a store of format {version}, and this version of tunekit knows format {FORMAT_VERSION}",
            where=str(path),
            mend=f"{mend}, or give the run a store of its own with --store FILE.",
        )
    if application == 0 and version == 0 and connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
        return False
    raise UsageError("this is another program's SQLite file, no store of answers", where=str(path), mend=NO_STORE)


def read_about(connection: sqlite3.Connection) -> dict[str, str]:
    """What a store says of itself: ``created`` (seconds since 1970), ``tool``, and perhaps a ``note``."""
    return dict(connection.execute("SELECT name, value FROM about").fetchall())


def wal_path(path: Path) -> Path:
    """Where SQLite puts what was written last, until it is merged into the file."""
    return path.with_name(path.name + "-wal")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?{mode}"
    connection = sqlite3.connect(address, BUSY_S, isolation_level=None, check_same_thread=False, uri=True)
    # A flipped bit in a text must show as a wrong checksum of that row, not as an error of the whole query.
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    return connection


def _holds_anything(path: Path) -> bool:
    """False where there is no file, or an empty one."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise told(error, path) from error
    if not stat.S_ISREG(found.st_mode):
        raise UsageError("this is no file", where=str(path), mend=NO_STORE)
    if 0 < found.st_size < LEAST_BYTES:
        raise damaged(path, f"it has {found.st_size} bytes")
    return found.st_size > 0


def _only_readable(path: Path) -> bool:
    """Whether nobody can write beside the file, so that SQLite need not (and could not) guard against it."""
    if os.access(path.resolve().parent, os.W_OK):
        return False
    wal = wal_path(path.resolve())
    if wal.exists() and wal.stat().st_size:
        raise UsageError(
            "the run that wrote it did not close it, and its folder may only be read",
            where=str(path),
            mend=f"Copy it together with {wal.name} into a folder that can be written.",
        )
    return True


def _roll_back(path: Path) -> None:
    connection = _connect(path, "mode=rw")
    connection.execute("SELECT 1 FROM sqlite_master").fetchall()
    connection.close()
