"""Writes checkpoints beside the training, one after another, and keeps a run alive when the disk does not take one."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from registry.atomic import atomic_folder
from registry.errors import StoppedError, TunekitError, reason_of
from trainkit.checkpoint import list_checkpoints, prune
from trainkit.snapshot import Snapshot, write_snapshot

log = logging.getLogger("tunekit")

REMIND_EVERY = 60.0  # seconds of waiting for a slow disk until it is said
LEAVE_WITHIN = 2.0  # seconds that a writer gets to clear away its half checkpoint when the run is broken off
SPARE = 1 << 20  # bytes: heads, manifest and the folder itself


class Abandoned(BaseException):
    """Raised in the writer when the run is broken off; the temporary folder goes."""


class Saver:
    """Takes snapshots and makes them ``root/checkpoint-<step>``, in a thread.

    One is written while one waits; who brings a third waits. A checkpoint that cannot be written (full disk, used up
    quota, file system gone read-only) is told once and counted in ``failed``; those before stay, and the run goes on.
    Use it as a context: leaving it well or by an error finishes what was taken, leaving it by Ctrl-C breaks it off.
    """

    def __init__(self, root: Path, *, keep: int | None = None) -> None:
        """``keep`` is ``save_total_limit``: None, 0 and less keep all."""
        self.failed = 0
        self._root, self._keep = root, keep
        self._protected: frozenset[int] = frozenset()
        self._changed = threading.Condition()
        self._waiting: list[Snapshot] = []
        self._writing: Snapshot | None = None
        self._faults: dict[int, OSError | MemoryError | TunekitError] = {}  # by step
        self._told: str | None = None  # the fault that was last told of
        self._bug: BaseException | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def protect(self, *steps: int) -> None:
        """Never prune the checkpoints of these steps (the best one); replaces the steps named before."""
        self._protected = frozenset(steps)

    def wait_for_room(self) -> None:
        """Until a further snapshot would not have to wait: asked before it is taken, only two are ever in memory."""
        self._wait(lambda: not self._waiting)

    def save(self, snapshot: Snapshot, *, final: bool = False) -> None:
        """Have a snapshot written. ``final`` waits until it is on the disk, with all before it.

        Raises ``StoppedError`` where a final one cannot be written; a fault of an earlier one is only told.
        """
        self.wait_for_room()
        with self._changed:
            self._waiting.append(snapshot)
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True, name="saver")
                self._thread.start()
        if final:
            self.finish()
            if fault := self._faults.get(snapshot.step):
                raise StoppedError(
                    f"{snapshot.name} could not be saved: {fault_text(fault)}",
                    where=str(self._root),
                    mend=f"Mend that and run the same command again: it goes on from {self._last_good() or 'the beginning'}.",
                ) from fault

    def finish(self) -> None:
        """Wait until everything that was taken is written or has failed."""
        self._wait(lambda: not self._waiting and self._writing is None)

    def abandon(self) -> None:
        """Break off what is being written; finished checkpoints are not touched."""
        self._stop.set()
        with self._changed:
            self._waiting.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(LEAVE_WITHIN)

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, Exception):
            self.finish()
        self.abandon()

    def _wait(self, until: Callable[[], bool]) -> None:
        """Wait on the writer. A signal's exception passes through; a fault of ours in the thread is raised here."""
        began = time.monotonic()
        with self._changed:
            while self._bug is None and not until():
                if not self._changed.wait(REMIND_EVERY):
                    seconds = time.monotonic() - began
                    name = self._writing.name if self._writing else "a checkpoint"
                    log.warning("the disk is slow: waiting for %s to be written, for %.0f s so far", name, seconds)
            if self._bug is not None:
                raise self._bug

    def _work(self) -> None:
        while not self._stop.is_set():
            with self._changed:
                while not self._waiting and not self._stop.is_set():
                    self._changed.wait()
                if self._stop.is_set():
                    return
                snapshot = self._writing = self._waiting.pop(0)
                self._changed.notify_all()
            try:
                self._write(snapshot)
            except Abandoned:
                return
            except BaseException as error:  # noqa: BLE001  # raised again where the run waits or saves
                self._bug = error
            finally:
                with self._changed:
                    snapshot = self._writing = None  # type: ignore[assignment]  # its memory is free from here on
                    self._changed.notify_all()

    def _write(self, snapshot: Snapshot) -> None:
        try:
            self._make_room(snapshot.num_bytes + SPARE)
            with atomic_folder(self._root / snapshot.name) as folder:
                write_snapshot(folder, snapshot, check=self._check)
        except (OSError, MemoryError, TunekitError) as error:
            self._failed(snapshot, error)
            return
        self._faults.pop(snapshot.step, None)
        if self._told is not None:
            log.warning("checkpoints can be saved again: %s is", snapshot.name)
            self._told = None
        prune(self._root, self._keep, protected=self._protected)

    def _check(self) -> None:
        if self._stop.is_set():
            raise Abandoned

    def _make_room(self, num_bytes: int) -> None:
        """Raise ``StoppedError`` where a checkpoint cannot fit, before any of it is written; what pruning would remove
        anyway once it is written goes first then, but never the newest."""
        if shutil.disk_usage(self._root).free >= num_bytes:
            return
        if self._keep and self._keep > 1:
            prune(self._root, self._keep - 1, protected=self._protected)
        if (free := shutil.disk_usage(self._root).free) < num_bytes:
            raise StoppedError(f"the disk has {size(free)} left, and it needs {size(num_bytes)}")

    def _failed(self, snapshot: Snapshot, error: OSError | MemoryError | TunekitError) -> None:
        self.failed += 1
        self._faults[snapshot.step] = error
        kind = f"{type(error).__name__} {getattr(error, 'errno', '')}"
        if kind != self._told:
            self._told = kind
            log.warning(
                "%s could not be saved: %s; training goes on (the last whole one: %s)",
                snapshot.name, fault_text(error), self._last_good() or "none yet",
            )  # fmt: skip

    def _last_good(self) -> str | None:
        return next((path.name for path in list_checkpoints(self._root)), None)


def fault_text(error: BaseException) -> str:
    """One line of what kept a checkpoint from being written."""
    if isinstance(error, OSError):
        return reason_of(error)
    return error.what if isinstance(error, TunekitError) else "out of memory"


def size(num_bytes: int) -> str:
    """Bytes as ``1.2 GB``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.1f} {unit}"
    return f"{num_bytes / 1e3:.0f} kB"
