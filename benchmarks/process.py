"""What one process measures of itself: the resident memory it had, and has had at most, and when each step ended."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any


def status(name: str) -> int:
    """Bytes that this process holds (``VmRSS``), or held at most (``VmHWM``); Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


@dataclass
class Measured:
    """The steps of a run: when each ended (the first entry is the beginning of the first), on the wall's clock and on the
    CPU's (seconds of all threads), the loss of each, and the most memory above the level before the model was loaded.
    ``once_s`` is what was computed once, before the first step."""

    ends: list[float] = field(default_factory=list)
    cpu_ends: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    level: int = 0
    peak: int = 0
    once_s: float = 0.0
    once_cpu_s: float = 0.0

    def before_model(self) -> None:
        """The level that memory is counted from: everything is imported, the model is not loaded."""
        self.level = status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on

    def begin(self) -> None:
        """The first step begins."""
        self.ends, self.cpu_ends = [time.perf_counter()], [time.process_time()]

    def step_ended(self) -> None:
        """A step has ended. Memory is read here, so that what comes after training is not in it."""
        self.ends.append(time.perf_counter())
        self.cpu_ends.append(time.process_time())
        self.peak = status("VmHWM") - self.level

    def as_json(self) -> dict[str, Any]:
        """With each step's seconds, from the end of the one before: fetching its batch is part of it."""
        return {**asdict(self), "seconds": steps_of(self.ends), "cpu_seconds": steps_of(self.cpu_ends)}


def steps_of(ends: list[float]) -> list[float]:
    """How long each step took."""
    return [after - before for before, after in pairwise(ends)]
