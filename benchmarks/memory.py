"""How much memory a command takes at its peak, with all processes that it starts."""

from __future__ import annotations

import threading
from pathlib import Path

SAMPLE_S = 0.05


class Watch(threading.Thread):
    """Adds up, every few hundredths of a second, what a process and its children hold (Linux)."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._over = pid, threading.Event()
        self.peak = 0
        self.start()

    def run(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.peak = max(self.peak, sum(map(held, family(self._pid))))

    def stop(self) -> None:
        """No more samples."""
        self._over.set()
        self.join()


def family(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(one for child in children for one in family(int(child)))]


def held(pid: int) -> int:
    """The most memory (bytes) that a process ever held."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)
