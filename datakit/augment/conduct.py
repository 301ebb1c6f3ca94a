"""Runs rollouts over the seeds: a bounded window of them at a time, each call from the store or through the dispatch."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from datakit.augment.answer import Stored
from datakit.augment.asking import Asking, asking
from datakit.augment.dispatch import Outcome, take
from datakit.augment.failures import FOR_GOOD, CallFailed, Kind, failure_of_response
from datakit.augment.providers import read_body
from datakit.augment.request import Request
from datakit.augment.rollout import Call, Making, Reply, Rollout, Seed
from datakit.augment.sender import Sender
from datakit.augment.shaping import Shaping
from datakit.augment.store import AnswerStore

POLL_S = 0.1
AHEAD = 2  # rollouts begun, for each call that may be on the way


@dataclass
class _Task:
    """One rollout on its way. ``open`` are the calls it waits for; replies are put together when all are there."""

    seed: Seed
    making: Making
    rollout: Rollout
    calls: list[Asking] = field(default_factory=list)
    replies: dict[int, Reply] = field(default_factory=dict)
    failure: CallFailed | None = None
    open: int = 0
    keys: set[str] = field(default_factory=set)  # of all that it asked


@dataclass(frozen=True, slots=True)
class Done:
    """One rollout that ended: with all its rows, or with those that it had when it failed."""

    seed: Seed
    making: Making
    failure: CallFailed | None


@dataclass
class Tally:
    """What became of calls, beyond what the dispatch knows: from the store, mended, corrected, cut off, given up.

    ``calls`` counts what was asked, with more room and corrections included; ``from_store`` those of them that the store
    had, or that another row asked at the same time.
    """

    calls: int = 0
    from_store: int = 0
    refused_before: int = 0
    failed: Counter[str] = field(default_factory=Counter)  # calls, by why
    notes: Counter[str] = field(default_factory=Counter)
    tokens_from_store: int = 0


class Conductor:
    """One run's rollouts. ``connect`` gives the dispatch when the first call has to be paid for, and not before."""

    def __init__(
        self,
        begin: Callable[[Seed], tuple[Making, Rollout]],
        shaping: Shaping,
        store: AnswerStore,
        connect: Callable[[], Sender],
        *,
        window: int,
        retry_refused: bool = False,
        fresh: bool = False,
    ) -> None:
        self.tally = Tally()
        self.dispatch: Sender | None = None
        self.shaping = shaping
        self._begin, self._store, self._connect = begin, store, connect
        self._window, self._retry_refused, self._fresh = window, retry_refused, fresh
        self._waiting: dict[str, list[tuple[_Task, int]]] = {}
        self._asked: set[str] = set()  # keys that this run asked for, where answers of earlier runs do not count
        self._running = 0
        self._done: list[Done] = []
        self._ready: list[tuple[_Task, int, Stored | None, CallFailed | None, bool]] = []  # the last: paid for now
        self._parameters = shaping.structured, len(shaping.left_out)

    def run(self, seeds: Iterator[Seed], tick: Callable[[], None] = lambda: None) -> Iterator[Done]:
        """Every rollout as it ends, in no order. Ends early, with those that are on the way, where the dispatch stops."""
        exhausted = False
        while True:
            while not exhausted and self._running < self._window and not self.stopped:
                seed = next(seeds, None)
                if seed is None:
                    exhausted = True
                    break
                self._start(seed)
                if self._done:
                    yield from self._drain()
            yield from self._drain()
            if not self._running and (exhausted or self.stopped):
                return
            if self._running:
                assert self.dispatch is not None
                self._take_in(take(self.dispatch.outcomes, POLL_S))
                if self.dispatch.fault is not None:
                    raise self.dispatch.fault
            tick()

    @property
    def stopped(self) -> CallFailed | None:
        """Why no more calls are sent, where none are."""
        return self.dispatch.stopped if self.dispatch is not None else None

    def _drain(self) -> Iterator[Done]:
        done, self._done = self._done, []
        yield from done

    def _start(self, seed: Seed) -> None:
        making, rollout = self._begin(seed)
        task = _Task(seed, making, rollout)
        self._running += 1
        self._go_on(task, None)
        self._settle()

    def _take_in(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            for task, index in self._waiting.pop(outcome.request.key, ()):
                self._ready.append((task, index, outcome.stored, outcome.failure, True))
        self._settle()

    def _settle(self) -> None:
        """Hand out what is ready until nothing is: one answer may make several calls ready, which the store has."""
        while self._ready:
            self._feed(*self._ready.pop())

    def _go_on(self, task: _Task, failure: CallFailed | None) -> None:
        """Let a rollout take its replies, or its failure, and begin the calls it asks for next."""
        try:
            if failure is not None:
                calls = task.rollout.throw(failure)
            else:
                replies = [task.replies[index] for index in sorted(task.replies)]
                calls = task.rollout.send(replies) if task.calls else next(task.rollout)
            while not calls:  # nothing to wait for
                calls = task.rollout.send([])
        except StopIteration:
            self._end(task, None)
            return
        except CallFailed as end:
            self._end(task, end)
            return
        self._begin_calls(task, calls)

    def _begin_calls(self, task: _Task, calls: Sequence[Call]) -> None:
        task.calls = [asking(call, self.shaping, self._note, self.held) for call in calls]
        task.replies, task.failure, task.open = {}, None, len(calls)
        for index, call in enumerate(task.calls):
            self._look_up(task, index, next(call))

    def held(self, request: Request) -> bool:
        """Whether the store has an answer to this that counts."""
        stored = self._store.get(request.key) if not self._fresh else None
        return stored is not None and stored.is_answer

    def _look_up(self, task: _Task, index: int, request: Any) -> None:
        """Where the store has it, it is ready; else it waits with all others that ask the same."""
        key = request.key
        is_new = key not in task.keys  # a rollout may look again for what it was given before
        task.keys.add(key)
        self.tally.calls += is_new
        if key in self._waiting:
            self.tally.from_store += is_new
            self._waiting[key].append((task, index))
            return
        stored = self._store.get(key) if not self._fresh or key in self._asked else None
        if stored is not None and (stored.is_answer or not self._retry_refused or key in self._asked):
            if key not in self._asked and is_new:
                self.tally.from_store += 1
                self.tally.tokens_from_store += stored.prompt_tokens + stored.completion_tokens
            self._ready.append((task, index, stored, None, False))
            return
        if self.dispatch is None:
            self.dispatch = self._connect()
        if self._fresh or self._retry_refused:
            self._asked.add(key)
        self._waiting[key] = [(task, index)]
        self.dispatch.submit(request)

    def _feed(self, task: _Task, index: int, stored: Stored | None, failure: CallFailed | None, paid: bool) -> None:
        """Give one call what it waits for."""
        call = task.calls[index]
        if stored is not None and not stored.is_answer and failure is None:
            self.tally.refused_before += 1
            failure = refused_before(stored)
        try:
            request = call.throw(failure) if failure is not None else call.send(_not_none(stored))
        except StopIteration as end:
            task.replies[index] = end.value
        except CallFailed as end:
            self.tally.failed[str(end.kind)] += 1
            task.failure = end if task.failure is None or end.kind in FOR_GOOD else task.failure
            if end.kind is Kind.UNPARSABLE and paid and self.dispatch is not None:
                self.dispatch.unread(str(end))
        else:
            if self._parameters != (self.shaping.structured, len(self.shaping.left_out)):
                self._remember()
            self._look_up(task, index, request)
            return
        task.open -= 1
        if not task.open:
            self._go_on(task, task.failure)

    def _end(self, task: _Task, failure: CallFailed | None) -> None:
        self._running -= 1
        self._done.append(Done(task.seed, task.making, failure))

    def _note(self, what: str) -> None:
        self.tally.notes[what] += 1

    def _remember(self) -> None:
        """What was learnt of the server, for the next run."""
        self._parameters = self.shaping.structured, len(self.shaping.left_out)
        self._store.put(self.shaping.learnt(time.time()), lambda error: None)


def refused_before(stored: Stored) -> CallFailed:
    """The refusal that the store keeps, as it was when it came."""
    try:
        read_body(stored.body)  # one by a content filter has the form of an answer
        told = failure_of_response(stored.status, {}, stored.body)
    except CallFailed as failure:
        told = failure if failure.kind is Kind.REFUSED else failure_of_response(stored.status, {}, stored.body)
    return CallFailed(
        Kind.REFUSED, told.reason, code=stored.finish or str(stored.status), status=stored.status, body=stored.body
    )


def _not_none(stored: Stored | None) -> Stored:
    assert stored is not None
    return stored
