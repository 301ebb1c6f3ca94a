"""Sends a run's requests in batches: one thread makes them, looks at them, and takes in what came of them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

from datakit.augment.batch.books import Books
from datakit.augment.batch.desk import Desk
from datakit.augment.batch.looking import Watch
from datakit.augment.batch.making import Maker
from datakit.augment.batch.notes import Notes
from datakit.augment.batch.pace import Pace
from datakit.augment.batch.patience import Left
from datakit.augment.batch.told import batch_told, left_told
from datakit.augment.budget import Budget
from datakit.augment.dispatch import Figures, Outcome
from datakit.augment.failures import CallFailed, Kind
from datakit.augment.request import Request
from datakit.augment.store import AnswerStore
from registry.errors import TunekitError

log = logging.getLogger("tunekit")

CLOSE_S = 5.0  # what is waited for the thread; whatever it is at, the next run goes on from there
_FOREVER = 3600.0


@dataclass(frozen=True, slots=True)
class Lane:
    """All batches together, for people."""

    limit: float
    why: str
    refused: int


class BatchDispatch:
    """Takes requests as ``dispatch.Dispatch`` does, and gives their outcomes when their batch has ended."""

    def __init__(
        self,
        desks: Sequence[Desk],
        store: AnswerStore,
        notes: Notes,
        budget: Budget,
        *,
        provider: str,
        attempts: int,
        pace: Pace,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ``UsageError`` where the notes cannot be read."""
        self._books = Books(store, budget, provider=provider, attempts=attempts, pace=pace, clock=clock)
        self._maker = Maker(desks, notes, self._books, provider=provider, pace=pace, clock=clock)
        self._watch = Watch(desks, notes, self._books, provider=provider, pace=pace, clock=clock)
        self._notes, self._budget, self._clock = notes, budget, clock
        self._closed = False
        self.fault: BaseException | None = None  # ours, in the thread
        self.outcomes: SimpleQueue[Outcome] = self._books.outcomes
        self.figures: Figures = self._books.figures
        self._maker.recall()
        self._thread = threading.Thread(target=self._work, daemon=True, name="batches")
        self._thread.start()

    # ---- what a run calls ---------------------------------------------------------------------------------------------

    @property
    def stopped(self) -> CallFailed | None:
        """Why no more batches are made, where none are."""
        return self._books.stopped

    @property
    def store_error(self) -> BaseException | None:
        return self._books.store_error

    def submit(self, request: Request) -> None:
        """Ask this with the next batch, or wait for the one that it is in. Its outcome comes out once."""
        self._books.ask(request)

    def unread(self, message: str) -> None:
        """An answer was paid for twice and could not be read; too many of these stop the run."""
        self._books.unread(message)

    def stop(self, why: CallFailed) -> None:
        """Make no more batches, and leave those that are out to a later run."""
        self._books.stop(why, leave=True)

    @property
    def concurrency(self) -> int:
        """Requests at the servers; 0 once nobody waits for them."""
        with self._books.lock:
            return 0 if self._books.is_left else self._books.out()

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """How things stand, in one line."""
        with self._books.lock:
            flights = self._books.flights
            out, waiting = self._books.out(), len(self._books.waves)
            why = batch_told(flights) if flights else f"{waiting:,} requests for the next batch"
            return (Lane(out, why, self.figures.rate_limits),)

    def close(self, wait: bool = True) -> None:
        """End the thread, and say what is left at the servers."""
        with self._books.lock:
            self._closed = self._books.is_left = True
            self._books.lock.notify_all()
        self._thread.join(timeout=CLOSE_S if wait else 0.1)
        flights = [flight for flight in self._books.flights if flight.left]
        if flights:
            log.warning("%s", left_told(flights))
        if not self._thread.is_alive():
            self._notes.close()

    # ---- the thread ---------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            for flight in list(self._books.flights):
                if not flight.note.id and not flight.is_unseen:
                    self._maker.search(flight)
            while self._turn():
                pass
        except Left:
            pass
        except CallFailed as failure:
            self.stop(failure)
        except TunekitError as error:
            self._books.store_error = self._books.store_error or error
            self.stop(CallFailed(Kind.STOPPED, str(error), code="store"))
        except BaseException as error:  # noqa: BLE001  # a thread that ends by itself would let the run hang
            if not self._closed:  # the store may be closed under a thread that was not waited for
                self.fault = error
                self.stop(CallFailed(Kind.STOPPED, f"{type(error).__name__}: {error}", code="fault"))

    def _turn(self) -> bool:
        """Make a batch, or look at one, or wait for a reason to; False when nobody waits any more."""
        books = self._books
        with books.lock:
            now = self._clock()
            minutes = self._budget.limits.minutes
            left = float("inf") if minutes is None else self._budget.started + minutes * 60 - now
            if left <= 0 and not books.is_left:
                books.stop(CallFailed(Kind.STOPPED, "--budget-minutes", code="budget"), leave=True)
            if books.is_left:
                return False
            jobs, spent = books.waves.take(now, books.bytes_out(), bool(books.flights))
            flight = min(books.flights, key=lambda flight: flight.due, default=None)
            due = flight.due - now if flight is not None else float("inf")
            if not jobs and spent is None and due > 0:
                quiet = books.waves.quiet_in(now) if len(books.waves) else 0.0
                books.lock.wait(min(due, left, quiet or _FOREVER, _FOREVER))
                return True
        if jobs:
            self._maker.send(jobs)
        if spent is not None:
            books.stop(CallFailed(Kind.STOPPED, spent, code="budget"), leave=False)
        if not jobs and flight is not None and due <= 0:
            self._watch.look(flight)
        return True
