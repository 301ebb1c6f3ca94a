"""Stopping on request: the first Ctrl-C or SIGTERM lets the step finish and be saved, the second leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import FrameType, TracebackType

from registry.errors import Interrupted
from trainkit.place import place_of

CLOSED = getattr(signal, "SIGHUP", signal.SIGTERM)  # Windows has none
SAYS = b"stopping: this step is finished and saved first; press Ctrl-C again to leave at once\n"


class StopRequest:
    """A flag that signals set, for the time of a ``with`` block. Truthy once a stop was asked for.

    A terminal that is closed (SIGHUP) asks too, unless ``nohup`` has that ignored; however often it does, only Ctrl-C
    and SIGTERM leave at once. Outside the main thread no signal can be taken, and the flag stays as it is.
    """

    def __init__(self) -> None:
        self._asked = False
        self._speaks = place_of().first  # of several processes one says it
        self._before: dict[int, object] = {}

    def __bool__(self) -> bool:
        return self._asked

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, CLOSED):
                if number != CLOSED or signal.getsignal(CLOSED) is not signal.SIG_IGN:
                    self._before.setdefault(number, signal.signal(number, self._on_signal))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        closed = number == CLOSED != signal.SIGTERM
        if closed:
            _let_go_of_terminal()
        if self._asked and not closed:
            raise Interrupted
        if not self._asked:
            self._asked = True
            with suppress(OSError):
                os.write(2, SAYS if self._speaks else b"")  # not print: the signal may have come in the middle of one


def _let_go_of_terminal() -> None:
    """Send what is still to be said to nowhere: writing to a terminal that is gone would end the run."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        if os.isatty(descriptor):
            os.dup2(nowhere, descriptor)
    os.close(nowhere)
