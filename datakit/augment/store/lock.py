"""Only one run writes into a store at a time: a lock of the system, which also frees it where a run is killed."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import orjson
from filelock import FileLock, Timeout

from datakit.augment.store.faults import told
from registry.errors import UsageError


@dataclass(frozen=True)
class Hold:
    """A store that is held by this process until ``release``."""

    lock: FileLock

    def release(self) -> None:
        """Let others in. The lock file goes while it is still held, so that a run that was refused leaves no trace."""
        with contextlib.suppress(OSError):
            Path(self.lock.lock_file).unlink(missing_ok=True)
        self.lock.release()


def lock_path(store: Path) -> Path:
    """The lock file of a store, the same by whatever link it is reached."""
    real = store.resolve()
    return real.with_name(real.name + ".lock")


def hold(store: Path) -> Hold:
    """Keep other runs from writing into ``store``.

    Raises ``UsageError`` that names the process at work where one is, or where the folder cannot be written.
    """
    path = lock_path(store)
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            f"another run writes into this store: {_who(path)}",
            where=str(store),
            mend="Wait until it is done, or give this run a store of its own with --store FILE.",
        ) from None
    except OSError as error:
        raise told(error, store) from error
    who = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    with contextlib.suppress(OSError):  # only told to others; Windows lets nobody write into a locked file
        path.write_bytes(orjson.dumps(who))
    return Hold(lock)


def _who(path: Path) -> str:
    """The process that has the lock, as it told itself."""
    try:
        who = orjson.loads(path.read_bytes())
        return f"process {who['pid']} on {who['host']}, since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "which one is not known"
