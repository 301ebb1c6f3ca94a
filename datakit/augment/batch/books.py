"""Who waits for what: requests asked for, answers on their way to the disk, and the outcome of each, once."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue

from datakit.augment.answer import Stored
from datakit.augment.batch.desk import Desk, Standing
from datakit.augment.batch.lines import Line
from datakit.augment.batch.notes import Note
from datakit.augment.batch.pace import Pace
from datakit.augment.batch.waves import Job, Waves
from datakit.augment.breaker import AT_LEAST, MOST
from datakit.augment.budget import Budget
from datakit.augment.dispatch import Figures, Outcome, refusal
from datakit.augment.failures import AGAIN, FATAL, CallFailed, Kind
from datakit.augment.guess import Guess
from datakit.augment.request import Request
from datakit.augment.shaping import refused_parameter
from datakit.augment.store import AnswerStore

AN_UNREAD_ANSWER_COST = 2  # answers: it was asked for twice


@dataclass(eq=False)
class Flight:
    """One batch at a server. ``left`` are the keys that nothing came for yet, ``landing`` counts answers on their way
    to the disk; times are of the run's clock."""

    note: Note
    left: set[str]
    size: int
    num_bytes: int = 0  # of its requests, at the most; 0 where an earlier run made it
    is_adopted: bool = False
    desk: Desk | None = None
    standing: Standing | None = None
    due: float = 0.0
    wait: float = 0.0
    lost_since: float | None = None
    is_unseen: bool = False  # no account that is at hand can see it
    num_bare: int = 0  # looks at which it had ended, and its files were not there yet
    landing: int = 0
    answered: int = 0
    refused: int = 0
    example: str = ""
    end: CallFailed | None = None  # why the run ends with what came of it


class Books:
    """All that several threads share, behind ``lock``, which all methods take for themselves."""

    def __init__(
        self,
        store: AnswerStore,
        budget: Budget,
        *,
        provider: str,
        attempts: int,
        pace: Pace,
        clock: Callable[[], float],
    ) -> None:
        self.lock = threading.Condition()
        self.outcomes: SimpleQueue[Outcome] = SimpleQueue()
        self.figures = Figures()
        self.budget, self.guess = budget, Guess()
        self.waves = Waves(pace, budget, self.guess)
        self.flights: list[Flight] = []
        self.stopped: CallFailed | None = None
        self.is_left = False  # what is at the server stays there, for a later run
        self.store_error: BaseException | None = None
        self._store, self._provider, self._attempts, self._clock = store, provider, attempts, clock
        self._wanted: dict[str, Job] = {}
        self._landing: set[str] = set()
        self._unasked: set[str] = set()  # keys whose answers came before anybody asked
        self._numbers = itertools.count()
        self._unread = 0

    # ---- asking -------------------------------------------------------------------------------------------------------

    def ask(self, request: Request) -> None:
        """Wait for the batch that holds the request, or for the next one to be made."""
        key = request.key
        with self.lock:
            if key not in self._unasked:
                self._await(request)
                return
        self.outcomes.put(Outcome(request, self._store.get(key)))

    def _await(self, request: Request) -> None:
        key = request.key
        flight = next((flight for flight in self.flights if key in flight.left), None)
        is_coming = flight is not None or key in self._landing
        if self.is_left or (self.stopped is not None and not is_coming):
            self.outcomes.put(Outcome(request, None, self._not_asked()))
            return
        job = self._wanted[key] = Job(request, next(self._numbers))
        if not is_coming:
            self.waves.add(job, self._clock())
        elif flight is not None and flight.is_unseen:
            flight.due = self._clock()
        self.lock.notify_all()

    def is_wanted(self, flight: Flight) -> bool:
        """Whether anybody waits for what is left of a batch."""
        with self.lock:
            return any(key in self._wanted for key in flight.left)

    def sent(self, flight: Flight, jobs: list[Job]) -> None:
        """A batch was made of ``jobs``."""
        with self.lock:
            self.flights.append(flight)
            self.figures.sent += len(jobs)
            self.figures.most_at_once = max(self.figures.most_at_once, self.out())

    def unsend(self, flight: Flight) -> None:
        """A batch came to nothing: its requests that are wanted wait for the next one, no attempt spent."""
        with self.lock:
            for key in flight.left:
                job = self._wanted.get(key)
                if job is None:
                    continue
                if job.reserved:
                    job.reserved = False
                    self.budget.unsend(job.number)
                    self.figures.sent -= 1
                self.waves.add(job, self._clock())
            flight.left.clear()
            if flight in self.flights:
                self.flights.remove(flight)
            if self.stopped is not None:
                self._flush(everything=False)
            self.lock.notify_all()

    def out(self) -> int:
        """Requests at the servers."""
        return sum(len(flight.left) for flight in self.flights)

    def bytes_out(self) -> int:
        """Bytes of them, at the most."""
        return sum(flight.num_bytes for flight in self.flights)

    # ---- what comes back ----------------------------------------------------------------------------------------------

    def take(self, flight: Flight, line: Line, request_of: Callable[[str], Request]) -> None:
        """What came for one request of a batch; ``request_of`` finds it where nobody asked for it in this run."""
        with self.lock:
            if line.key not in flight.left:  # a line that came twice, or is not ours
                return
            flight.left.discard(line.key)
            job = self._wanted.get(line.key) or Job(request_of(line.key), -1)
            job.attempts += 1
            if line.failure is None:
                self._answered(flight, job, line)
            else:
                self._failed(flight, job, line.failure)

    def _answered(self, flight: Flight, job: Job, line: Line) -> None:
        answer = line.answer
        assert answer is not None
        prompt, completion = answer.prompt_tokens, answer.completion_tokens
        stored = Stored(
            key=line.key,
            request=job.request.spelled,
            body=line.body,
            provider=self._provider,
            model=answer.model or job.request.model,
            finish=answer.finish,
            prompt_tokens=prompt,
            completion_tokens=completion,
            attempts=job.attempts,
            created=time.time(),
        )
        self._keep(flight, stored, None)
        flight.answered += 1
        self.figures.answered += 1
        self.guess.learn(job.request.messages, prompt, completion)
        self.budget.settle(job.number, prompt or job.prompt, completion or job.completion)
        job.reserved = False

    def _failed(self, flight: Flight, job: Job, failure: CallFailed) -> None:
        is_again = failure.kind in AGAIN or failure.kind is Kind.RATE_LIMIT
        if failure.kind is Kind.RATE_LIMIT:
            self.figures.rate_limits += 1
            if job.reserved:
                self.figures.sent -= 1
                self.budget.unsend(job.number)
        else:
            self.figures.failed[str(failure.kind)] += 1
            self.budget.settle(job.number)
        job.reserved = False
        if failure.kind in FATAL:
            flight.end = flight.end or failure
        is_unwelcome = refused_parameter(job.request, failure) is not None
        if failure.kind is Kind.REFUSED and not is_unwelcome:
            flight.refused += 1
            flight.example = str(failure)
            self._keep(flight, refusal(job.request, failure, self._provider, job.attempts), failure)
        elif job.number < 0:
            return  # nobody asked; whoever does so later asks anew
        elif is_again and job.attempts < self._attempts and self.stopped is None:
            self.figures.retried += 1
            self.waves.add(job, self._clock())
        else:
            del self._wanted[job.request.key]
            self.outcomes.put(Outcome(job.request, None, failure))

    def _keep(self, flight: Flight, stored: Stored, failure: CallFailed | None) -> None:
        self._landing.add(stored.key)
        flight.landing += 1
        self._store.put(stored, partial(self._kept, flight, stored, failure))

    def _kept(self, flight: Flight, stored: Stored, failure: CallFailed | None, error: BaseException | None) -> None:
        """In the store's thread: only now it is an outcome."""
        with self.lock:
            flight.landing -= 1
            self._landing.discard(stored.key)
            job = self._wanted.pop(stored.key, None)
            if job is not None:
                self.outcomes.put(Outcome(job.request, stored, failure))
            elif error is None:
                self._unasked.add(stored.key)
            if error is not None and self.store_error is None:
                self.store_error = error
                self.stop(CallFailed(Kind.STOPPED, str(error), code="store"), leave=True)
            self.lock.notify_all()

    # ---- stopping -----------------------------------------------------------------------------------------------------

    def judge(self, flight: Flight) -> None:
        """End a run whose requests are mostly refused, before the next batch is paid for.

        Batch by batch, not over a window of calls: refusals stand together in a file of their own.
        """
        with self.lock:
            ended = flight.answered + flight.refused
            if flight.end is None and ended >= AT_LEAST and flight.refused > MOST * ended:
                what = f"{flight.refused} of {ended} requests were refused. For example: {flight.example}"
                flight.end = CallFailed(Kind.STOPPED, what, code="breaker")
            if flight.end is not None:
                self.stop(flight.end, leave=False)

    def unread(self, message: str) -> None:
        """An answer could not be read, even when it was asked for once more."""
        with self.lock:
            self._unread += 1
            answers = AN_UNREAD_ANSWER_COST * self._unread
            if answers >= AT_LEAST and answers > MOST * self.figures.answered:
                what = f"{self._unread} answers could not be read. For example: {message}"
                self.stop(CallFailed(Kind.STOPPED, what, code="breaker"), leave=False)

    def stop(self, why: CallFailed, *, leave: bool) -> None:
        """Make no more batches. With ``leave`` those that are out are not waited for either: a later run takes them up."""
        with self.lock:
            self.stopped = self.stopped or why
            self.is_left = self.is_left or leave
            self._flush(everything=self.is_left)
            self.lock.notify_all()

    def _flush(self, *, everything: bool) -> None:
        """Tell those who wait that their request was not asked: those in no batch, or all but what is on its way to
        the disk."""
        waiting = self.waves.clear()
        for key in list(self._wanted) if everything else [job.request.key for job in waiting]:
            if key not in self._landing:
                self.outcomes.put(Outcome(self._wanted.pop(key).request, None, self._not_asked()))

    def _not_asked(self) -> CallFailed:
        assert self.stopped is not None
        return CallFailed(Kind.STOPPED, self.stopped.reason, code=self.stopped.code)
