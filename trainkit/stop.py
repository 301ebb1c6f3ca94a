"""Stopping on request: the first Ctrl-C or SIGTERM lets the step finish and be saved, the second leaves at once."""

from __future__ import annotations

import signal
import sys
from types import FrameType, TracebackType

from registry.errors import Interrupted


class StopRequest:
    """A flag that signals set, for the time of a ``with`` block. Truthy once a stop was asked for."""

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[int, object] = {}

    def __bool__(self) -> bool:
        return self._asked

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise Interrupted
        self._asked = True
        print("stopping: this step is finished and saved first; press Ctrl-C again to leave at once", file=sys.stderr)
