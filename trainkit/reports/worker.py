"""One tracker in a thread of its own: whatever it does, hangs or raises, the run neither waits nor ends."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from trainkit.reports.base import Numbers, Opening, Status, Tracker

log = logging.getLogger("tunekit")

HELD = 10_000  # log lines that wait for a tracker; beyond them it loses the newest
MOST_FAULTS = 5  # in a row, until a tracker is let go


class Worker:
    """A tracker and the lines that wait for it. ``opened(run_id)`` is called once it is there."""

    def __init__(
        self, name: str, open_tracker: Callable[[Opening], Tracker], opening: Opening, opened: Callable[[str], None]
    ) -> None:
        self.name = name
        self._open, self._opening, self._opened = open_tracker, opening, opened
        self._queue: queue.Queue[tuple[int, Numbers] | Status] = queue.Queue(HELD)
        self._gone = False
        self._told = False
        self._thread = threading.Thread(target=self._work, name=f"report-{name}", daemon=True)

    def start(self) -> None:
        """Open the tracker, meanwhile."""
        self._thread.start()

    def log(self, step: int, numbers: Numbers) -> None:
        """Hand over one line; never waits."""
        if self._gone:
            return
        try:
            self._queue.put_nowait((step, numbers))
        except queue.Full:
            self._tell(f"does not keep up; lines from step {step} on are lost to it")

    def finish(self, status: Status) -> None:
        """Ask the tracker to close, after all lines that wait; ``wait`` waits for that."""
        while True:
            try:
                return self._queue.put_nowait(status)
            except queue.Full:  # one line gives way
                with suppress(queue.Empty):
                    self._queue.get_nowait()

    def wait(self, until: float) -> None:
        """Wait for the tracker's end up to the time ``until`` (of ``time.monotonic``), and say so where it has none."""
        self._thread.join(max(0.0, until - time.monotonic()))
        if self._thread.is_alive():
            log.warning("%s is still not done; the run ends without it, and its last numbers may be missing", self.name)
            self._gone = True

    def _work(self) -> None:
        try:
            tracker = self._open(self._opening)
            self._opened(tracker.run_id)
        except BaseException as error:  # noqa: BLE001  # some libraries raise SystemExit
            self._drop(f"could not be started ({_short(error)})")
            return
        faults = 0
        while not self._gone:
            item = self._queue.get()
            try:
                if isinstance(item, str):
                    tracker.finish(item)
                    return
                tracker.log(*item)
                faults = 0
            except BaseException as error:  # noqa: BLE001  # whatever it is, it is the tracker's
                faults += 1
                if isinstance(item, str):
                    self._drop(f"could not be closed ({_short(error)})")
                    return
                self._tell(f"failed at step {item[0]} ({_short(error)})")
                if faults == MOST_FAULTS:
                    self._drop(f"failed {faults} times in a row ({_short(error)})", again=True)
                    return

    def _drop(self, why: str, *, again: bool = False) -> None:
        """Let the tracker go, its waiting lines too."""
        self._gone = True
        self._tell(f"{why}: it is told nothing more", again=again)

    def _tell(self, what: str, *, again: bool = False) -> None:
        """Say once what is wrong with the tracker, and once more when it is let go."""
        if not self._told or again:
            self._told = True
            log.warning("%s %s; training goes on", self.name, what)


def _short(error: BaseException) -> str:
    """The kind of an error and the first line that it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
