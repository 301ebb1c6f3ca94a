"""Waiting for servers that fail for now, for as long as the run itself waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from datakit.augment.batch.books import Books
from datakit.augment.batch.pace import Pace
from datakit.augment.batch.told import final
from datakit.augment.failures import AGAIN, CallFailed, Kind

T = TypeVar("T")
FIRST_WAIT_S = 0.5


class Left(Exception):
    """The run does not wait for batches any more."""


class Patience:
    """Waits that end when the run leaves."""

    def __init__(self, books: Books, pace: Pace, clock: Callable[[], float]) -> None:
        self._books, self._pace, self._clock = books, pace, clock

    def pause(self, seconds: float) -> None:
        """Wait, unless the run leaves meanwhile."""
        until = self._clock() + seconds
        with self._books.lock:
            while not self._books.is_left and (left := until - self._clock()) > 0:
                self._books.lock.wait(left)
            if self._books.is_left:
                raise Left

    def insist(self, call: Callable[[], T]) -> T:
        """Ask a server until it does what is asked. Raises ``CallFailed`` where it never will, or has not for long."""
        began, wait = self._clock(), FIRST_WAIT_S
        while True:
            try:
                return call()
            except CallFailed as failure:
                again = failure.kind in AGAIN or failure.kind is Kind.RATE_LIMIT
                if not again or self._clock() - began > self._pace.patience_s:
                    raise final(failure) from None
                self.pause(max(wait, failure.retry_after or 0.0))
                wait = min(2 * wait, self._pace.most_look_s)
