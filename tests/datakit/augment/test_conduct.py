"""Rollouts over a window of seeds, with a sender that answers by a script: what is asked, shared, kept and thrown in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import orjson
import pytest

from datakit.augment.answer import Stored
from datakit.augment.conduct import Conductor, Done
from datakit.augment.dispatch import Figures, Outcome
from datakit.augment.failures import CallFailed, Kind
from datakit.augment.request import Request
from datakit.augment.rollout import Call, Making, Reply, Rollout, Seed
from datakit.augment.shaping import Shaping
from datakit.augment.store import AnswerStore
from datakit.recipes.recipe import load_recipe
from tests.conftest import chat
from tests.datakit.augment.store.made import put_all

RECIPE = load_recipe("answer", "en")
Answers = Callable[[Request], "str | CallFailed"]


@dataclass
class Sender:
    """Answers each request at once, and keeps answers in the store as the real one does. ``sent`` are the questions."""

    store: AnswerStore
    answers: Answers
    outcomes: SimpleQueue[Outcome] = field(default_factory=SimpleQueue)
    figures: Figures = field(default_factory=Figures)
    stopped: CallFailed | None = None
    store_error: BaseException | None = None
    fault: BaseException | None = None
    lanes: tuple[Any, ...] = ()
    concurrency: int = 0
    sent: list[str] = field(default_factory=list)
    unread_told: list[str] = field(default_factory=list)
    held: list[Request] = field(default_factory=list)
    holding: bool = False

    def submit(self, request: Request) -> None:
        if self.stopped is not None:
            self.outcomes.put(Outcome(request, None, self.stopped))
            return
        self.sent.append(question(request))
        if self.holding:
            self.held.append(request)
        else:
            self.answer(request)

    def answer(self, request: Request) -> None:
        said = self.answers(request)
        if isinstance(said, CallFailed) and said.kind is not Kind.REFUSED:
            if said.kind is Kind.QUOTA:
                self.stopped = said
            self.outcomes.put(Outcome(request, None, said))
            return
        stored = stored_answer(request, said)
        put_all(self.store, [stored])
        self.outcomes.put(Outcome(request, stored, said if isinstance(said, CallFailed) else None))

    def unread(self, message: str) -> None:
        self.unread_told.append(message)

    def stop(self, why: CallFailed) -> None:
        self.stopped = why

    def close(self, wait: bool = True) -> None:
        pass


def question(request: Request) -> str:
    """The word of the first question that tells calls apart."""
    asked = next(content for role, content in request.messages if role == "user")
    return next(word for word in asked.split() if word.startswith("Q"))


def stored_answer(request: Request, said: str | CallFailed) -> Stored:
    if isinstance(said, CallFailed):
        return Stored(request.key, request.spelled, said.body, "openai", "m", 400, said.code)
    body = orjson.dumps({"choices": [{"message": {"content": said}, "finish_reason": "stop"}], "model": "m"})
    return Stored(request.key, request.spelled, body, "openai", "m", prompt_tokens=3, completion_tokens=4)


def seed(number: int, text: str = "") -> Seed:
    return Seed(number, "s.jsonl", number + 1, chat(text or f"Q{number}", ""))


def ask(text: str, make: Making) -> Call:
    value = {"system": "", "tools": "", "turns": [{"role": "user", "content": text}], "question": text, "answer": ""}
    return make.call(n=1, already=(), seed={**value, "text": "", "is_single": False})


def simple(one: Seed, make: Making) -> Rollout:
    """One call, one row."""
    (reply,) = yield [ask(one.record.messages[0].content, make)]  # type: ignore[union-attr]
    make.emit(chat("q", reply.value), reply)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnswerStore]:
    with AnswerStore(tmp_path / "a.sqlite") as opened:
        yield opened


@dataclass
class Ran:
    """What a run did."""

    done: list[Done]
    sender: Sender
    conductor: Conductor

    def texts(self) -> dict[int, list[str]]:
        return {one.seed.index: [m.record.messages[-1].content for m in one.making.made] for one in self.done}  # type: ignore[union-attr]


def run(
    store: AnswerStore,
    seeds: Sequence[Seed],
    answers: Answers = lambda request: f"to {question(request)}",
    rollout: Callable[[Seed, Making], Rollout] = simple,
    *,
    window: int = 100,
    sender: Sender | None = None,
    tick: Callable[[], None] = lambda: None,
    **options: Any,
) -> Ran:
    sender = sender or Sender(store, answers)

    def begin(one: Seed) -> tuple[Making, Rollout]:
        make = Making(RECIPE, 1, RECIPE.prompt.filled({}), partial(load_recipe, language="en"), seeds=(one,))
        return make, rollout(one, make)

    conductor = Conductor(begin, Shaping("f", "m"), store, lambda: sender, window=window, **options)
    return Ran(list(conductor.run(iter(seeds), tick)), sender, conductor)


def test_each_seed_is_asked_once_and_a_further_run_asks_nothing(store):
    first = run(store, [seed(0), seed(1)])
    assert sorted(first.sender.sent) == ["Q0", "Q1"]
    assert first.texts() == {0: ["to Q0"], 1: ["to Q1"]}
    second = run(store, [seed(1), seed(0)])
    assert second.sender.sent == []
    assert second.texts() == first.texts()
    assert second.conductor.dispatch is None  # no key is needed, and no store to be written
    assert (second.conductor.tally.calls, second.conductor.tally.from_store) == (2, 2)
    assert second.conductor.tally.tokens_from_store == 14


def test_two_rows_that_ask_the_same_share_one_answer(store):
    sender = Sender(store, lambda request: "same", holding=True)

    def tick() -> None:
        while sender.held:
            sender.answer(sender.held.pop())

    ran = run(store, [seed(0, "Q"), seed(1, "Q"), seed(2, "Q")], sender=sender, tick=tick)
    assert sender.sent == ["Q"]
    assert ran.texts() == {0: ["same"], 1: ["same"], 2: ["same"]}


def test_no_more_rollouts_are_begun_than_the_window_holds(store):
    sender = Sender(store, lambda request: "a", holding=True)
    most = 0

    def tick() -> None:
        nonlocal most
        most = max(most, len(sender.held))
        for request in sender.held[:1]:
            sender.answer(request)
        del sender.held[:1]

    ran = run(store, [seed(n) for n in range(8)], sender=sender, window=3, tick=tick)
    assert len(ran.done) == 8
    assert most == 3


def test_seeds_are_read_only_when_there_is_room(store):
    read: list[int] = []
    sender = Sender(store, lambda request: "a", holding=True)

    def seeds() -> Iterator[Seed]:
        for n in range(100):
            read.append(n)
            yield seed(n)

    def tick() -> None:
        sender.stop(CallFailed(Kind.STOPPED, "enough"))
        while sender.held:
            sender.answer(sender.held.pop())

    ran = run(store, seeds(), sender=sender, window=4, tick=tick)  # type: ignore[arg-type]
    assert len(read) == len(ran.done) == 4


def test_a_refusal_is_thrown_into_its_rollout_kept_and_not_asked_again(store):
    refused = CallFailed(Kind.REFUSED, "not that", code="1301", status=400, body=b'{"error":{"message":"not that"}}')
    answers = lambda request: refused if question(request) == "Q1" else "fine"  # noqa: E731
    first = run(store, [seed(0), seed(1)], answers)
    second = run(store, [seed(0), seed(1)], answers)
    assert (len(first.sender.sent), second.sender.sent) == (2, [])
    assert second.conductor.tally.refused_before == 1
    for ran in (first, second):
        (failed,) = [one.failure for one in ran.done if one.failure is not None]
        assert (failed.kind, failed.reason, failed.code, failed.status) == (Kind.REFUSED, "not that", "1301", 400)
        assert ran.conductor.tally.failed == {"refused": 1}
    third = run(store, [seed(0), seed(1)], lambda request: "now", retry_refused=True)
    assert third.sender.sent == ["Q1"]
    assert third.texts() == {0: ["fine"], 1: ["now"]}


def test_a_content_filter_is_told_the_same_way_when_it_comes_from_the_store(store):
    body = b'{"choices":[{"message":{"content":""},"finish_reason":"content_filter"}]}'
    reason = "stopped by the server's content filter"
    refused = CallFailed(Kind.REFUSED, reason, code="content_filter", body=body)
    for _ in range(2):
        (done,) = run(store, [seed(0)], lambda request: refused).done
        assert done.failure is not None
        assert (done.failure.reason, done.failure.code) == (reason, "content_filter")


def test_fresh_asks_for_all_again_but_for_nothing_twice(store):
    run(store, [seed(0)], lambda request: "old")

    def twice(one: Seed, make: Making) -> Rollout:
        for _ in range(2):
            (reply,) = yield [ask("Q0", make)]
            make.emit(chat("q", reply.value), reply)

    again = run(store, [seed(0)], lambda request: "new", twice, fresh=True)
    assert again.sender.sent == ["Q0"]
    assert again.texts() == {0: ["new", "new"]}


def test_replies_come_in_the_order_of_their_calls_whatever_comes_first(store):
    def three(one: Seed, make: Making) -> Rollout:
        replies = yield [ask(f"Q{n}", make) for n in "abc"]
        for reply in replies:
            make.emit(chat("q", reply.value), reply)

    sender = Sender(store, lambda request: question(request), holding=True)

    def tick() -> None:
        while sender.held:
            sender.answer(sender.held.pop())  # the last one first

    assert run(store, [seed(0)], rollout=three, sender=sender, tick=tick).texts() == {0: ["Qa", "Qb", "Qc"]}


def test_rows_that_were_made_before_a_failure_stay(store):
    def two(one: Seed, make: Making) -> Rollout:
        for text in ("Qgood", "Qbad"):
            (reply,) = yield [ask(text, make)]
            make.emit(chat("q", reply.value), reply)

    outage = CallFailed(Kind.SERVER, "down")
    (done,) = run(store, [seed(0)], lambda r: outage if question(r) == "Qbad" else "kept", two).done
    assert [made.record.messages[-1].content for made in done.making.made] == ["kept"]  # type: ignore[union-attr]
    assert done.failure is outage


def test_a_rollout_may_take_a_failure_and_go_on(store):
    def stubborn(one: Seed, make: Making) -> Rollout:
        try:
            yield [ask("Qbad", make)]
        except CallFailed as failure:
            (reply,) = yield [ask("Qgood", make)]
            make.emit(chat("q", f"{failure.reason}, {reply.value}"), reply)

    refused = CallFailed(Kind.REFUSED, "no", status=400)
    ran = run(store, [seed(0)], lambda r: refused if question(r) == "Qbad" else "yes", stubborn)
    assert ran.texts() == {0: ["no, yes"]}
    assert ran.done[0].failure is None


def test_of_several_failures_the_one_for_good_is_told(store):
    def both(one: Seed, make: Making) -> Rollout:
        yield [ask("Qdown", make), ask("Qno", make)]

    failures = {"Qdown": CallFailed(Kind.SERVER, "down"), "Qno": CallFailed(Kind.REFUSED, "no", status=400)}
    (done,) = run(store, [seed(0)], lambda request: failures[question(request)], both).done
    assert done.failure is failures["Qno"]


def test_when_the_sender_stops_what_is_open_ends_and_no_seed_is_begun(store):
    quota = CallFailed(Kind.QUOTA, "no money")
    answers = lambda request: quota if question(request) == "Q2" else "paid"  # noqa: E731
    ran = run(store, [seed(n) for n in range(50)], answers, window=1)
    assert ran.sender.sent == ["Q0", "Q1", "Q2"]
    assert ran.texts() == {0: ["paid"], 1: ["paid"], 2: []}
    assert ran.conductor.stopped is quota


def test_a_rollout_that_asks_nothing_needs_no_sender(store):
    def silent(one: Seed, make: Making) -> Rollout:
        make.emit(chat("q", "as it was"))
        return
        yield

    ran = run(store, [seed(n) for n in range(200)], rollout=silent, window=2)
    assert len(ran.done) == 200
    assert ran.conductor.dispatch is None


def test_answers_that_nobody_can_read_are_told_to_the_sender_once(store):
    answers = lambda request: "" if question(request) == "Q0" else "fine"  # noqa: E731
    ran = run(store, [seed(0)], answers)
    assert ran.sender.sent == ["Q0", "Q0"]  # asked, and corrected once
    assert ran.done[0].failure is not None
    assert ran.done[0].failure.kind is Kind.UNPARSABLE
    assert len(ran.sender.unread_told) == 1
    assert ran.conductor.tally.notes == {"corrected": 1}
    again = run(store, [seed(1), seed(0)], answers)
    assert again.sender.sent == ["Q1"]
    assert again.sender.unread_told == []  # paid for by another run: nothing against this one's server
    assert again.conductor.tally.failed == {"unparsable": 1}


def test_a_fault_of_ours_in_the_sender_is_raised_and_not_waited_out(store):
    sender = Sender(store, lambda request: "a", holding=True)

    def tick() -> None:
        sender.fault = ZeroDivisionError("ours")

    with pytest.raises(ZeroDivisionError):
        run(store, [seed(0)], sender=sender, tick=tick)


def test_many_rounds_of_a_rollout_from_the_store_do_not_pile_up(store):
    def long(one: Seed, make: Making) -> Rollout:
        replies: list[Reply] = []
        for n in range(3000):
            replies += yield [ask(f"Q{n % 3}", make)]
        make.emit(chat("q", str(len(replies))), *replies)

    assert run(store, [seed(0)], rollout=long).texts() == {0: ["3000"]}
