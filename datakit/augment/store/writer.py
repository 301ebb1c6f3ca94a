"""The one thread that writes into a store: what is queued goes in together, and each is told when it is durable."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue

from datakit.augment.answer import Stored
from datakit.augment.store.faults import SQLITE_ERRORS, told
from datakit.augment.store.layout import PUT, open_to_write, set_up, wal_path
from datakit.augment.store.lock import Hold, hold
from datakit.augment.store.rows import Row, to_row
from registry.errors import TunekitError

log = logging.getLogger("tunekit")

Done = Callable[[BaseException | None], None]
Item = tuple[Stored, Done]

GROUP_ROWS = 256
GROUP_BYTES = 32 << 20  # of bodies, so that a group of huge ones does not fill the memory
GROUP_WAIT_S = 0.02  # one sync of the disk then serves all answers of 20 ms
RESERVE_BYTES = 1 << 20  # what must fit on the disk before anything is paid for
MERGE_WAIT_S = 2.0  # how long readers are waited for at the end


class Writer:
    """Takes answers from any thread and writes them from one of its own, which starts with the first answer."""

    def __init__(self, path: Path, *, note: str | None = None, spoilt: set[bytes] | None = None) -> None:
        """``spoilt`` holds keys whose rows do not match their checksum: whatever comes for them replaces them."""
        self.num_commits = 0
        self._path, self._note = path, note
        self._spoilt = set() if spoilt is None else spoilt
        self._queue: SimpleQueue[Item | None] = SimpleQueue()
        self._door = threading.Lock()  # nothing gets into the queue behind its end
        self._preparing = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._hold: Hold | None = None
        self._connection: sqlite3.Connection | None = None
        self._is_set_up = False
        self._failed: TunekitError | None = None

    def prepare(self) -> None:
        """Lock the store, and see that it can be written; a file that is there keeps every byte.

        Raises ``UsageError`` where it is locked, read-only, damaged or no store, ``StoppedError`` where the disk is full.
        """
        with self._preparing:
            if self._hold is not None:
                return
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._hold = hold(self._path)
                with tempfile.TemporaryFile(dir=self._path.resolve().parent) as reserve:
                    reserve.write(bytes(RESERVE_BYTES))
                    reserve.flush()
                if self._path.exists():
                    self._connection = open_to_write(self._path, create=False)
            except BaseException as error:
                self._let_go()
                if isinstance(error, (*SQLITE_ERRORS, OSError)):
                    raise told(error, self._path) from error
                raise

    def put(self, stored: Stored, done: Done) -> None:
        """Queue one answer. Raises ``ValueError`` after ``close``."""
        with self._door:
            if self._closing.is_set():
                raise ValueError("this store is closed")
            self._queue.put((stored, done))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="store writer", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Wait until all that was put is written, merge the WAL into the file, and let other runs in."""
        with self._door:
            if not self._closing.is_set():
                self._closing.set()
                self._queue.put(None)
        if self._thread is not None:
            self._thread.join()
        with self._preparing:
            self._let_go()

    def _run(self) -> None:
        ended = False
        while not ended:
            group, ended = self._next_group()
            if group:
                self._write(group)

    def _next_group(self) -> tuple[list[Item], bool]:
        """What is queued, after a short wait for more, and whether that was the last."""
        item = self._queue.get()
        if item is not None and self._queue.qsize() + 1 < GROUP_ROWS:
            self._closing.wait(GROUP_WAIT_S)
        group: list[Item] = []
        num_bytes = 0
        while item is not None:
            group.append(item)
            num_bytes += len(item[0].body)
            if len(group) == GROUP_ROWS or num_bytes > GROUP_BYTES:
                return group, False
            try:
                item = self._queue.get_nowait()
            except Empty:
                return group, False
        return group, True

    def _write(self, group: list[Item]) -> None:
        rows: list[Row] = []
        waiting: list[Done] = []
        for stored, done in group:
            try:
                if self._failed is None:
                    rows.append(to_row(stored))
                waiting.append(done)
            except Exception as error:  # noqa: BLE001  # one answer that cannot be kept is no reason to lose the others
                _tell(done, error)
        if rows:
            self._commit(rows)
        for done in waiting:
            _tell(done, self._failed)

    def _commit(self, rows: list[Row]) -> None:
        try:
            connection = self._ready()
            connection.execute("BEGIN IMMEDIATE")
            for row in rows:
                if row[0] in self._spoilt:
                    connection.execute("DELETE FROM answers WHERE key = ?", row[:1])
                    self._spoilt.discard(row[0])
            connection.executemany(PUT, rows)
            connection.execute("COMMIT")
            self.num_commits += 1
        except TunekitError as error:
            self._failed = error
        except (*SQLITE_ERRORS, OSError) as error:
            self._failed = told(error, self._path, num_kept=self._roll_back())
        except Exception as error:  # noqa: BLE001  # told to those who wait; a thread that dies would leave them waiting
            self._roll_back()
            self._failed = TunekitError(f"a fault of ours: {type(error).__name__}: {error}", where=str(self._path))

    def _ready(self) -> sqlite3.Connection:
        """The connection, with tables and in WAL mode. Where the file system has no shared memory, WAL is not to be
        had (the pragma then gives another mode); a rollback journal is slower and as safe."""
        self.prepare()
        if self._connection is None:
            self._connection = open_to_write(self._path, create=True)
        if not self._is_set_up:
            set_up(self._connection, self._path, {"note": self._note} if self._note else {})
            self._connection.execute("PRAGMA journal_mode = WAL").fetchall()
            self._is_set_up = True
        return self._connection

    def _roll_back(self) -> int | None:
        """Undo what is half done; how many answers the store holds, where that can be told."""
        try:
            if self._connection is None:
                return None
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            (count,) = self._connection.execute("SELECT count(*) FROM answers").fetchone()
            return int(count)
        except SQLITE_ERRORS:
            return None

    def _let_go(self) -> None:
        if self._connection is not None:
            self._merge(self._connection)
            self._connection.close()
            self._connection = None
        if self._hold is not None:
            self._hold.release()
            self._hold = None

    def _merge(self, connection: sqlite3.Connection) -> None:
        """Make the file complete in itself, as it was before the first write."""
        with contextlib.suppress(*SQLITE_ERRORS):
            connection.execute(f"PRAGMA busy_timeout = {MERGE_WAIT_S * 1000:.0f}")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            connection.execute("PRAGMA journal_mode = DELETE").fetchall()  # fails while others read: no harm
        wal = wal_path(self._path.resolve())
        with contextlib.suppress(OSError):
            if wal.stat().st_size:
                log.warning(
                    "%s could not be merged into the store: copy the two together until the next run has", wal.name
                )


def _tell(done: Done, error: BaseException | None) -> None:
    try:
        done(error)
    except Exception:
        log.exception("what was to be told of a kept answer could not be told")
