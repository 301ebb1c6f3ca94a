"""Calls to servers: which goes when, through which account, and what becomes of those that fail.

One thread decides, as many threads send, and the store's own thread writes. Whoever asks hands requests in with
``submit`` and takes outcomes from ``outcomes``: an answer comes out only when the store has it for good.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Protocol

from datakit.augment.accounts import Account
from datakit.augment.admission import Lane
from datakit.augment.answer import Answer, Stored
from datakit.augment.breaker import Breaker
from datakit.augment.budget import Budget
from datakit.augment.failures import AGAIN, FATAL, CallFailed, Kind
from datakit.augment.guess import Guess
from datakit.augment.providers import Provider, Sent
from datakit.augment.request import Request
from datakit.augment.shaping import refused_parameter

log = logging.getLogger("tunekit")

ATTEMPTS = 6  # for one call, refusals for now (429) not counted
BACKOFF_S = 0.5  # the most before a second attempt, doubled with each further one
LONGEST_BACKOFF_S = 60.0
MINUTES = "--budget-minutes"
_FOREVER = 3600.0


class Writer(Protocol):
    """What of the store is needed here."""

    def put(self, stored: Stored, done: Callable[[BaseException | None], None]) -> None: ...


@dataclass
class _Job:
    request: Request
    number: int
    prompt: int = 0  # tokens, guessed
    completion: int = 0
    attempts: int = 0
    refusals: int = 0  # for now (429)
    started: float = 0.0
    lane: int = 0
    is_back: bool = False  # from the attempt at hand


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request: the stored answer (or refusal), or why there is none."""

    request: Request
    stored: Stored | None
    failure: CallFailed | None = None


@dataclass
class Figures:
    """What a run did so far, for the live view and the report."""

    sent: int = 0
    answered: int = 0
    retried: int = 0
    rate_limits: int = 0
    most_at_once: int = 0
    failed: Counter[str] = field(default_factory=Counter)  # attempts, by kind
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=1000))  # of the last answers


class Dispatch:
    """Sends requests through the lanes of all accounts. ``stopped`` says why it sends no more, where it does not."""

    def __init__(
        self,
        accounts: Sequence[Account],
        connect: Callable[[Account], Provider],
        store: Writer,
        budget: Budget,
        *,
        provider: str,
        workers: int,
        rpm: float | None = None,
        tpm: float | None = None,
        timeout_s: float = 300.0,
        attempts: int = ATTEMPTS,
        breaker: Breaker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.outcomes: SimpleQueue[Outcome] = SimpleQueue()
        self.figures = Figures()
        self.guess = Guess()
        self.budget = budget
        self.breaker = breaker or Breaker()
        self.lanes = [Lane(workers, rpm, tpm) for _ in accounts]
        self.stopped: CallFailed | None = None
        self.store_error: BaseException | None = None
        self.fault: BaseException | None = None  # ours, in a thread
        self._accounts, self._store, self._provider = accounts, store, provider
        self._providers = [connect(account) for account in accounts]
        self._timeout, self._attempts, self._clock = timeout_s, attempts, clock
        self._lock = threading.Condition()
        self._new: deque[_Job] = deque()
        self._later: list[tuple[float, int, _Job]] = []  # a heap, by when they are due
        self._numbers = itertools.count()
        self._handoff: SimpleQueue[_Job | None] = SimpleQueue()
        self._idle = 0
        self._threads: list[threading.Thread] = []
        self._flying = 0
        self._lane_turn = 0
        self._closed = False
        self._decider = threading.Thread(target=self._decide, daemon=True, name="dispatch")
        self._decider.start()

    def submit(self, request: Request) -> None:
        """Ask this, when its turn comes. Its outcome comes out of ``outcomes``, once."""
        with self._lock:
            if self.stopped is not None:
                self.outcomes.put(Outcome(request, None, self._not_asked()))
                return
            self._new.append(_Job(request, next(self._numbers)))
            self._lock.notify()

    def unread(self, message: str) -> None:
        """An answer was paid for twice and could not be read; too many of these stop the run."""
        with self._lock:
            self._heed(self.breaker.unread(message))

    def stop(self, why: CallFailed) -> None:
        """Send no more. What is on the way comes back and is kept; the rest comes out as not asked."""
        with self._lock:
            self._stop(why)

    def close(self, wait: bool = True) -> None:
        """End all threads; with ``wait`` after what is on the way came back."""
        with self._lock:
            self._closed = True
            self._lock.notify()
        self._decider.join(timeout=_FOREVER if wait else 0.1)
        for _ in self._threads:
            self._handoff.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    @property
    def concurrency(self) -> int:
        """Calls on the way."""
        return sum(lane.in_flight for lane in self.lanes)

    # ---- deciding, by one thread ------------------------------------------------------------------------------------

    def _decide(self) -> None:
        try:
            self._decide_all()
        except BaseException as error:  # noqa: BLE001  # as in the threads that send
            self._crash(error)

    def _decide_all(self) -> None:
        with self._lock:
            while not (self._closed and not self._flying):
                now = self._clock()
                job, wait = self._next(now)
                if job is None:
                    self._lock.wait(wait)
                    continue
                self._send_off(job, now)

    def _next(self, now: float) -> tuple[_Job | None, float]:
        """The call that goes now with its lane chosen, or how long to wait."""
        if self.stopped is not None or self._closed:
            return None, _FOREVER
        left = self._time_left(now)
        if left <= 0:
            self._stop(CallFailed(Kind.STOPPED, MINUTES, code="budget"))
            return None, _FOREVER
        due = self._later[0][0] if self._later else float("inf")
        job = self._later[0][2] if due <= now else self._new[0] if self._new else None
        if job is None:
            return None, min(due - now, left)
        if not job.prompt:
            job.prompt = self.guess.prompt(job.request.messages)
        job.completion = self.guess.completion(job.request.sampling.get("max_tokens"))
        spent = self.budget.spent_by(now, job.prompt, job.completion)
        if spent is not None:
            if self._flying and spent != MINUTES:
                return None, self._time_left(now)  # what is on the way may take less than was thought, or be refused
            self._stop(CallFailed(Kind.STOPPED, spent, code="budget"))
            return None, _FOREVER
        # The lane that is open soonest; among those that are open, the least busy one, each in turn.
        tokens = job.prompt + job.completion
        count = len(self.lanes)
        order = [(self._lane_turn + i) % count for i in range(count)]
        opens = [(self.lanes[i].opens_at(now, tokens), self.lanes[i].in_flight, place) for place, i in enumerate(order)]
        when, _, place = min(opens)
        if when > now:
            return None, min(when - now, max(due - now, 0.001) if due > now else _FOREVER, left)
        job.lane = order[place]
        self._lane_turn = (job.lane + 1) % count
        if due <= now:
            heapq.heappop(self._later)
        else:
            self._new.popleft()
        return job, 0.0

    def _time_left(self, now: float) -> float:
        """Seconds until the budget of minutes ends, and an hour at the most: nothing waits longer without a look."""
        minutes = self.budget.limits.minutes
        return _FOREVER if minutes is None else min(self.budget.started + minutes * 60 - now, _FOREVER)

    def _send_off(self, job: _Job, now: float) -> None:
        job.started, job.is_back = now, False
        self.lanes[job.lane].sent(now, job.prompt + job.completion)
        self.budget.reserve(job.number, job.prompt, job.completion)
        self.figures.sent += 1
        self._flying += 1
        self.figures.most_at_once = max(self.figures.most_at_once, self._flying)
        if self._idle > 0:
            self._idle -= 1
        else:
            thread = threading.Thread(target=self._send_jobs, daemon=True, name=f"send-{len(self._threads)}")
            self._threads.append(thread)
            thread.start()
        self._handoff.put(job)

    # ---- sending, by many threads -------------------------------------------------------------------------------------

    def _send_jobs(self) -> None:
        while (job := self._handoff.get()) is not None:
            try:
                self._send(job)
            except BaseException as error:  # noqa: BLE001  # a thread that ends by itself would let the run hang
                self._crash(error, job)

    def _send(self, job: _Job) -> None:
        try:
            sent = self._providers[job.lane].send(job.request, self._timeout)
        except CallFailed as failure:
            self._failed(job, failure)
        else:
            self._answered(job, sent, sent.answer)

    def _crash(self, error: BaseException, job: _Job | None = None) -> None:
        """A fault of ours in a thread: the run ends, and whoever waits for outcomes raises it."""
        self.fault = self.fault or error
        with self._lock:
            if job is not None and not job.is_back:
                job.is_back = True
                self._flying -= 1
                self.lanes[job.lane].in_flight -= 1
            self._stop(CallFailed(Kind.STOPPED, f"{type(error).__name__}: {error}", code="fault"))
        if job is not None:
            self.outcomes.put(Outcome(job.request, None, self._not_asked()))

    def _answered(self, job: _Job, sent: Sent, answer: Answer) -> None:
        now = self._clock()
        took = now - job.started
        stored = Stored(
            key=job.request.key,
            request=job.request.spelled,
            body=sent.body,
            provider=self._provider,
            model=answer.model or job.request.model,
            finish=answer.finish,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            seconds=round(took, 3),
            attempts=job.attempts + 1,
            created=time.time(),
        )
        # To the store first: whatever happens from here on, the answer is on its way to the disk.
        self._keep(job, stored)
        prompt, completion = answer.prompt_tokens, answer.completion_tokens
        with self._lock:
            job.is_back = True
            self._flying -= 1
            self._idle += 1
            self.figures.answered += 1
            self.figures.seconds.append(took)
            guessed = job.prompt + job.completion
            used = prompt + completion or guessed
            self.lanes[job.lane].answered(now, job.started, guessed, used, sent.headers)
            self.guess.learn(job.request.messages, prompt, completion)
            self.budget.settle(job.number, prompt or job.prompt, completion or job.completion)
            self._heed(self.breaker.ended(None))
            self._lock.notify()

    def _failed(self, job: _Job, failure: CallFailed) -> None:
        now = self._clock()
        with self._lock:
            job.is_back = True
            self._flying -= 1
            self._idle += 1
            lane, guessed = self.lanes[job.lane], job.prompt + job.completion
            if failure.kind is Kind.RATE_LIMIT:
                self.figures.rate_limits += 1
                self.figures.sent -= 1
                self.budget.unsend(job.number)
                lane.refused_for_now(now, job.started, guessed, failure.retry_after)
                job.refusals += 1
                # Where the lane is cut it waits anyway; where one call alone was refused, only this one does.
                wait = failure.retry_after if failure.retry_after is not None else self._wait(job.refusals)
                self._put_off(job, now + wait)
                return
            self.figures.failed[str(failure.kind)] += 1
            self.budget.settle(job.number)
            lane.failed(now, guessed, retry_after=failure.retry_after)
            job.attempts += 1
            unwelcome = refused_parameter(job.request, failure) is not None
            if not unwelcome and failure.kind not in FATAL:
                self._heed(self.breaker.ended(failure))
            if failure.kind in FATAL and self._shut(job.lane, failure):
                self.figures.retried += 1
                self._put_off(job, now)
                return
            if failure.kind in AGAIN and job.attempts < self._attempts and self.stopped is None:
                self.figures.retried += 1
                heapq.heappush(
                    self._later, (now + self._backoff(job.attempts, failure, troubled=lane.troubled), job.number, job)
                )
                self._lock.notify()
                return
            self._lock.notify()
        if failure.kind is Kind.REFUSED and not unwelcome:
            self._keep(job, refusal(job.request, failure, self._provider, job.attempts, now - job.started), failure)
        else:
            self.outcomes.put(Outcome(job.request, None, failure))

    def _put_off(self, job: _Job, until: float) -> None:
        """It is asked again then; where the run has stopped meanwhile, it comes out as not asked."""
        if self.stopped is not None:
            self.outcomes.put(Outcome(job.request, None, self._not_asked()))
            return
        heapq.heappush(self._later, (until, job.number, job))
        self._lock.notify()

    def _shut(self, number: int, failure: CallFailed) -> bool:
        """An account cannot be used any more. True where there are others, which go on; else the run stops."""
        lane = self.lanes[number]
        if not lane.shut:
            lane.shut = True
            log.warning("%s is left out from now on: %s", self._accounts[number].name, failure)
        if all(one.shut for one in self.lanes):
            self._stop(failure)
            return False
        return True

    def _backoff(self, attempts: int, failure: CallFailed, *, troubled: bool) -> float:
        """Seconds until the next attempt, and never sooner than the server said; fewer where others are answered."""
        return max(self._wait(attempts, BACKOFF_S if troubled else BACKOFF_S / 5), failure.retry_after or 0.0)

    def _wait(self, times: int, first_s: float = BACKOFF_S) -> float:
        """Exponential with full jitter."""
        from tenacity import RetryCallState, wait_random_exponential

        state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
        state.attempt_number = times
        return wait_random_exponential(multiplier=first_s, max=LONGEST_BACKOFF_S, min=0.05)(state)

    def _keep(self, job: _Job, stored: Stored, failure: CallFailed | None = None) -> None:
        def kept(error: BaseException | None) -> None:
            if error is not None:
                # The run ends, and whoever takes the outcome sees why. The answer still counts: it is used in this run.
                self.store_error = self.store_error or error
                self.stop(CallFailed(Kind.STOPPED, str(error), code="store"))
            self.outcomes.put(Outcome(job.request, stored, failure))

        self._store.put(stored, kept)

    # ---- stopping -----------------------------------------------------------------------------------------------------

    def _heed(self, verdict: str | None) -> None:
        if verdict == "":
            for lane in self.lanes:
                lane.open()
        elif verdict is not None:
            self._stop(CallFailed(Kind.STOPPED, verdict, code="breaker"))

    def _stop(self, why: CallFailed) -> None:
        if self.stopped is not None:
            return
        self.stopped = why
        for job in (*self._new, *(job for _, _, job in self._later)):
            self.outcomes.put(Outcome(job.request, None, self._not_asked()))
        self._new.clear()
        self._later.clear()
        self._lock.notify()

    def _not_asked(self) -> CallFailed:
        assert self.stopped is not None
        return CallFailed(Kind.STOPPED, self.stopped.reason, code=self.stopped.code)


def refusal(request: Request, failure: CallFailed, provider: str, attempts: int, seconds: float = 0.0) -> Stored:
    """What the store keeps of a request that was refused for good."""
    return Stored(
        key=request.key,
        request=request.spelled,
        body=failure.body,
        provider=provider,
        model=request.model,
        status=failure.status if failure.status >= 300 else 400,
        finish=failure.code,
        seconds=round(seconds, 3),
        attempts=attempts,
        created=time.time(),
    )


def take(outcomes: SimpleQueue[Outcome], timeout: float) -> list[Outcome]:
    """All outcomes that are there, waiting up to ``timeout`` seconds for the first."""
    found: list[Outcome] = []
    try:
        found.append(outcomes.get(timeout=timeout))
        while True:
            found.append(outcomes.get_nowait())
    except Empty:
        return found
