"""What a run would ask and cost, without asking: rollouts are run with answers from the store, else with imagined ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from datakit.augment.answer import Answer
from datakit.augment.asking import asking
from datakit.augment.conduct import refused_before
from datakit.augment.failures import CallFailed
from datakit.augment.guess import rough_tokens
from datakit.augment.outputs import Dialogue, Instruction, Pair, Score, Thought, Turn, Verdict
from datakit.augment.request import Request
from datakit.augment.rollout import Call, Reply, Rollout, Seed
from registry.records import ChatRecord, Record

if TYPE_CHECKING:
    from datakit.augment.run import Run

MOST_SHOWN = 3  # prompts
PLAIN_TEXT = "x" * 240  # an imagined text where no seed tells how long one is
_AROUND_ITEM = 12  # tokens of JSON around one item


@dataclass
class Foresight:
    """``calls`` in all, ``known`` of them answered in the store; tokens and cost are of those that are not.

    ``prompts`` are the messages of the first calls.
    """

    seeds: int = 0
    rows: int = 0
    calls: int = 0
    known: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    unreadable: int = 0
    prompts: list[tuple[tuple[str, str], ...]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "seeds": self.seeds,
            "seeds_unreadable": self.unreadable,
            "rows_expected": self.rows,
            "calls": self.calls,
            "calls_in_store": self.known,
            "calls_to_pay": self.calls - self.known,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost": self.cost,
            "prompts": [[{"role": r, "content": c} for r, c in messages] for messages in self.prompts],
        }


def foresee(run: Run) -> Foresight:
    """Go through all seeds as a run would. An imagined answer is as long as the texts of its seed, for each row asked for."""
    found = Foresight()

    def unreadable(seed: Seed, why: Any) -> None:
        found.unreadable += 1

    for seed in run.plan.seeds(unreadable, lambda index, row: None, lambda file: None):
        found.seeds += 1
        making, rollout = run.plan.begin(seed)
        try:
            calls = next(rollout)
            while True:
                calls = _go_on(run, seed, calls, rollout, found)
        except (StopIteration, CallFailed):
            found.rows += len(making.made)
    if run.price is not None:
        found.cost = run.price.of(found.prompt_tokens, found.completion_tokens)
    return found


def _go_on(run: Run, seed: Seed, calls: Sequence[Call], rollout: Rollout, found: Foresight) -> Sequence[Call]:
    """What a rollout asks next, when it has replies to ``calls``, or the failure of one of them."""
    replies: list[Reply] = []
    failure: CallFailed | None = None
    for call in calls:
        try:
            replies.append(_reply(run, seed, call, found))
        except CallFailed as end:
            failure = failure or end
    return rollout.send(replies) if failure is None else rollout.throw(failure)


def _reply(run: Run, seed: Seed, call: Call, found: Foresight) -> Reply:
    """The reply that the store has, or one that is imagined."""
    found.calls += 1
    going = asking(call, run.conductor.shaping, lambda what: None, run.conductor.held)
    request = next(going)
    if len(found.prompts) < MOST_SHOWN:
        found.prompts.append(request.messages)
    while True:
        stored = run.store.get(request.key) if not run.options.fresh else None
        if stored is None or (not stored.is_answer and run.options.retry_refused):
            return _imagined(seed, call, request, found)
        try:
            request = going.send(stored) if stored.is_answer else going.throw(refused_before(stored))
        except StopIteration as end:
            found.known += 1
            return end.value
        except CallFailed:  # asked and answered, or refused, for good: it costs nothing more
            found.known += 1
            raise


def _imagined(seed: Seed, call: Call, request: Request, found: Foresight) -> Reply:
    value = _value(call, *_texts_of(seed))
    text = _spelled(value)
    found.prompt_tokens += sum(rough_tokens(content) + 4 for _, content in request.messages)
    most = request.sampling.get("max_tokens")
    tokens = rough_tokens(text) + (_AROUND_ITEM * len(value) if isinstance(value, list) else 0)
    found.completion_tokens += min(tokens, int(most)) if most else tokens
    return Reply(call, value, Answer(text, model=request.model), request.key)


def _texts_of(seed: Seed) -> tuple[str, str]:
    """A question and an answer that are as long as those of the seed."""
    record: Record | None = seed.record if seed.record is not None else seed.pool[0].record if seed.pool else None
    if isinstance(record, ChatRecord):
        said = [m.content for m in record.messages if m.role == "user"]
        answered = [m.content for m in record.messages if m.role == "assistant"]
        return (said[-1] if said else PLAIN_TEXT), (answered[-1] if answered and answered[-1] else PLAIN_TEXT)
    return PLAIN_TEXT, PLAIN_TEXT


def _value(call: Call, question: str, answer: str) -> Any:
    count = call.expects or int(call.values.get("n") or 1)
    numbers = range(count)
    if call.output == "text":
        return f"{answer} {call.sample}" if call.sample else answer  # two answers to one question differ
    if call.output == "thought":
        return Thought(answer, answer)
    if call.output == "texts":
        return [f"{question} {number}" for number in numbers]
    if call.output == "pairs":
        return [Pair(f"{question} {number}", answer) for number in numbers]
    if call.output == "instructions":
        return [Instruction(f"{question} {number}") for number in numbers]
    if call.output == "dialogues":
        turns = (Turn("user", question), Turn("assistant", answer))
        return [Dialogue((Turn("user", f"{question} {number}"), turns[1])) for number in numbers]
    return Score(8.0, "…") if call.output == "score" else Verdict("A", "…")


def _spelled(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Thought):
        return value.thoughts + value.answer
    items: Sequence[Any] = value if isinstance(value, list) else [value]
    texts: list[str] = []
    for item in items:
        if isinstance(item, str):
            texts.append(item)
        elif isinstance(item, Pair):
            texts += [item.question, item.answer]
        elif isinstance(item, Instruction):
            texts.append(item.question)
        elif isinstance(item, Dialogue):
            texts += [turn.content for turn in item.turns]
        else:
            texts.append(PLAIN_TEXT)  # a score or a verdict, with its reason
    return "".join(texts)
