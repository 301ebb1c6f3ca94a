"""What SQLite and the disk say of a store, as errors that tell what is kept and how to go on."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

from registry.errors import StoppedError, TunekitError, UsageError

# What the sqlite3 module raises: where the text of an error quotes a damaged page, that is no UTF-8 and no sqlite3.Error.
SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_STORE = "Name a store that datakit augment wrote (OUT.store.sqlite by default)."


def told(
    error: sqlite3.Error | UnicodeDecodeError | OSError, path: Path, *, num_kept: int | None = None
) -> TunekitError:
    """An error of SQLite or of the system about the store ``path`` as one of ours.

    A full or failing disk is a ``StoppedError``, all else a ``UsageError``. ``num_kept`` answers are known to be safe.
    """
    if isinstance(error, OSError):
        return no_room(path, num_kept) if error.errno in NO_ROOM else not_writable(path, error.strerror or str(error))
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return no_room(path, num_kept)
    if code == sqlite3.SQLITE_IOERR:
        return StoppedError(
            f"the disk fails ({error}); {_kept(num_kept)}",
            where=str(path),
            mend="See to the disk (its room, a limit on file sizes, its health), then run the same command again.",
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return not_writable(path, str(error))
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return UsageError(
            f"another program holds this store ({error})", where=str(path), mend="Close it there, and try again."
        )
    return damaged(path, str(error))


def no_room(path: Path, num_kept: int | None = None) -> StoppedError:
    """The disk is full, or a quota is used up."""
    return StoppedError(
        f"there is no room for more answers; {_kept(num_kept)}",
        where=str(path),
        mend="Free some space and run the same command again: it goes on there, and asks for none of them twice.",
    )


def not_writable(path: Path, why: str) -> UsageError:
    """The file or its folder may only be read, or not even that."""
    return UsageError(
        f"cannot be opened or written: {why}",
        where=str(path),
        mend="Make the file and its folder writable, or name another store with --store FILE (a copy will do).",
    )


def damaged(path: Path, why: str) -> UsageError:
    """The file is no store, or was one before a disk or a hand spoilt it; then how many answers are still whole."""
    from datakit.augment.store.salvage import MOST_COUNTED_BYTES, count_whole

    try:
        num_whole = count_whole(path)
    except OSError:
        num_whole = 0
    if not num_whole:
        return UsageError(f"this is no store of answers ({why})", where=str(path), mend=NO_STORE)
    more = " at least" if path.stat().st_size > MOST_COUNTED_BYTES else ""
    return UsageError(
        f"the store is damaged ({why}); {_answers(num_whole)} in it can be saved{more and ',' + more}",
        where=str(path),
        mend=f"Save them with:  datakit store export {path} -o SAVED.sqlite --salvage\n"
        "  then run the same command with --store SAVED.sqlite: only what was lost is asked for again.",
    )


def _kept(num_kept: int | None) -> str:
    return "what is in the store is kept" if num_kept is None else f"the store keeps its {_answers(num_kept)}"


def _answers(count: int) -> str:
    return "1 answer" if count == 1 else f"{count:,} answers"
