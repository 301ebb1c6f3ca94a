"""Files that are written under hidden names and get their own names together, at the end, or not at all."""

from __future__ import annotations

import hashlib
import io
import os
from contextlib import suppress
from dataclasses import dataclass
from itertools import filterfalse
from pathlib import Path
from typing import IO, Any, cast

from registry.atomic import fsync_folder, temporary_name
from registry.digest import Following
from registry.remote import is_remote
from registry.remote.cloud import faults_of, filesystem


@dataclass
class _Pending:
    """One file on its way: where it is written, and under what hidden name as long as it lies on this machine."""

    target: str
    handle: IO[bytes]
    hidden: Path | None
    following: Following | None = None

    def settle(self) -> None:
        """Bring all of it to the disk, or to the store, and close it. A full disk shows here."""
        if self.handle.closed:
            return
        if self.hidden is not None:
            self.handle.flush()
            if self.following is not None:
                self.following.complete()
            os.fsync(self.handle.fileno())
        self.handle.close()


class _Hashing(io.RawIOBase):
    """A file in a store, which cannot be read back before it has its name: counted and hashed on its way there.

    ``flush`` does nothing: it goes in blocks of the store's own size, and the rest when it is closed.
    """

    def __init__(self, handle: Any, target: str) -> None:
        self._handle, self._target = handle, target
        self.digest, self.bytes = hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        with faults_of(self._target, "writing"):
            self._handle.write(data)
        self.digest.update(data)
        self.bytes += size
        return size

    def tell(self) -> int:
        return self.bytes

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        with faults_of(self._target, "writing"):
            self._handle.close()


class Together:
    """The files of one command. Where its block ends well they are all named, in the order in which they were opened;
    until then, and where it does not, nothing has changed.

    On a local disk a failure between two names takes the first ones back, and only a machine that stops right there
    leaves some old and some new. In an object store each file appears whole, one after the other.
    """

    def __init__(self) -> None:
        self._pending: dict[str, _Pending] = {}
        self._removals: list[str] = []
        self._stores: dict[str, Any] = {}  # scheme and host -> file system in a transaction

    def __enter__(self) -> Together:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.discard()

    def __contains__(self, target: str) -> bool:
        return target in self._pending

    def open(self, target: str) -> IO[bytes]:
        """The handle for ``target``, the same one each time. Raises ``OSError``, and ``UsageError`` for a store."""
        if target not in self._pending:
            if is_remote(target):
                pending = _Pending(target, self._open_in_store(target), None)
            else:
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                hidden = temporary_name(Path(target))
                try:
                    handle = hidden.open("wb")
                except OSError as error:
                    error.filename = target  # the name that people know
                    raise
                pending = _Pending(target, handle, hidden, Following(hidden))
            self._pending[target] = pending
        return self._pending[target].handle

    def _open_in_store(self, target: str) -> IO[bytes]:
        place = "/".join(target.split("/", 3)[:3])
        if place not in self._stores:
            # An instance of its own: what else is opened in this process must not wait for our commit.
            store, _ = filesystem(target, skip_instance_cache=True)
            store.start_transaction()
            self._stores[place] = store
        _, path = filesystem(target)
        with faults_of(target, "opening"):
            return cast(IO[bytes], _Hashing(self._stores[place].open(path, "wb"), target))

    def settle(self, target: str) -> None:
        """``target`` is complete: bring it to the disk and close it. Raises ``OSError``."""
        self._pending[target].settle()

    def describe(self, target: str) -> dict[str, Any]:
        """``file``, ``bytes`` and ``sha256`` of a file that is settled."""
        pending = self._pending[target]
        if isinstance(pending.handle, _Hashing):
            told = {"bytes": pending.handle.bytes, "sha256": pending.handle.digest.hexdigest()}
        else:
            assert pending.hidden is not None
            assert pending.following is not None
            told = {"bytes": pending.hidden.stat().st_size, "sha256": pending.following.sha256()}
        return {"file": target, **told}

    def remove(self, target: str) -> None:
        """Remove ``target`` (where it is) when the others get their names, before the last of them does."""
        self._removals.append(target)

    def commit(self) -> None:
        """Give all files their names. Raises ``OSError``; what can be taken back then is."""
        for pending in self._pending.values():
            pending.settle()
        local = [pending for pending in self._pending.values() if pending.hidden]
        undo: list[tuple[Path, Path | None]] = []  # name -> what was there before, under a hidden name
        try:
            for pending in local[:-1]:
                self._name(pending, undo)
            for target in filterfalse(is_remote, self._removals):
                _take_away(Path(target), undo)
            for pending in local[-1:]:
                self._name(pending, undo)
            self._commit_stores()
        except BaseException:
            for named, before in reversed(undo):
                _put_back(named, before)
            self.discard()
            raise
        try:
            _forget(undo)
        except BaseException:
            _forget(undo)  # interrupted: all have their names, and only the old ones are to be cleared away
            raise
        for folder in {Path(pending.target).parent for pending in local}:
            fsync_folder(folder)

    @staticmethod
    def _name(pending: _Pending, undo: list[tuple[Path, Path | None]]) -> None:
        target = Path(pending.target)
        before: Path | None = None
        if os.path.lexists(target):
            before = temporary_name(target)
            try:
                os.link(target, before, follow_symlinks=False)
            except OSError:  # a file system without hard links: this one cannot be taken back
                os.replace(str(pending.hidden), target)
                return
        undo.append((target, before))
        os.replace(str(pending.hidden), target)

    def _commit_stores(self) -> None:
        for place, store in self._stores.items():
            with faults_of(place, "writing"):
                store.end_transaction()
        for target in filter(is_remote, self._removals):
            store, path = filesystem(target)
            with faults_of(target, "removing"):
                if store.exists(path):
                    store.rm_file(path)

    def discard(self) -> None:
        """Remove everything that has no name yet."""
        for pending in self._pending.values():
            if pending.following is not None:
                pending.following.stop()
            with suppress(Exception):  # the first failure is the one to tell
                pending.handle.close()
            if pending.hidden is not None:
                pending.hidden.unlink(missing_ok=True)
        for store in self._stores.values():
            with suppress(Exception):
                store.transaction.complete(commit=False)


def _take_away(target: Path, undo: list[tuple[Path, Path | None]]) -> None:
    if os.path.lexists(target):
        aside = temporary_name(target)
        os.replace(target, aside)
        undo.append((target, aside))


def _put_back(target: Path, before: Path | None) -> None:
    with suppress(OSError):
        if before is None:
            target.unlink(missing_ok=True)
        else:
            os.replace(before, target)
            before.unlink(missing_ok=True)  # where both are one file, a rename does nothing


def _forget(undo: list[tuple[Path, Path | None]]) -> None:
    for _, before in undo:
        if before is not None:
            before.unlink(missing_ok=True)
