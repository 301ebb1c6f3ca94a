"""What a run needs of whatever sends its requests: one by one (``dispatch``) or many in a file (``batch``)."""

from __future__ import annotations

from collections.abc import Sequence
from queue import SimpleQueue
from typing import Protocol

from datakit.augment.dispatch import Figures, Outcome
from datakit.augment.failures import CallFailed
from datakit.augment.request import Request


class LaneView(Protocol):
    """How things stand with one account, for people."""

    @property
    def limit(self) -> float:
        """Calls that may be out at once."""
        ...

    @property
    def why(self) -> str:
        """Why it is so many."""
        ...

    @property
    def refused(self) -> int:
        """Rate limits met."""
        ...


class Sender(Protocol):
    """Takes requests and gives the outcome of each, once, when the store has its answer for good."""

    outcomes: SimpleQueue[Outcome]
    figures: Figures

    @property
    def stopped(self) -> CallFailed | None:
        """Why no more is sent, where none is."""
        ...

    @property
    def store_error(self) -> BaseException | None:
        """Why an answer could not be kept, where one could not."""
        ...

    @property
    def fault(self) -> BaseException | None:
        """A fault of ours in one of its threads, which whoever takes outcomes raises."""
        ...

    @property
    def lanes(self) -> Sequence[LaneView]:
        """One or more, for the live view."""
        ...

    @property
    def concurrency(self) -> int:
        """Requests on the way; after ``stop``, those that are still waited for."""
        ...

    def submit(self, request: Request) -> None:
        """Ask this, when its turn comes."""
        ...

    def unread(self, message: str) -> None:
        """An answer was paid for twice and could not be read."""
        ...

    def stop(self, why: CallFailed) -> None:
        """Send no more; what was not sent comes out as not asked."""
        ...

    def close(self, wait: bool = True) -> None:
        """End all threads."""
        ...
