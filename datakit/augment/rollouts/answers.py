"""Recipes whose answer is the answer of a row."""

from __future__ import annotations

from datakit.augment.failures import CallFailed, Kind
from datakit.augment.rollout import Making, Rollout, Seed
from datakit.augment.seeds import conversation, is_answered, values_of, with_answer
from registry.records import ChatRecord, TextRecord


def fill(seed: Seed, make: Making) -> Rollout:
    """An answer where the last one is missing or blank; other rows pass as they are, without a call."""
    chat = conversation(seed.record)
    if is_answered(chat):
        make.emit(chat)
        return
    (reply,) = yield [make.call(n=1, already=(), **values_of(seed))]
    make.emit(with_answer(chat, reply.value), reply)


def anew(seed: Seed, make: Making) -> Rollout:
    """The last answer given anew; n times where rows stand beside the seeds."""
    chat = _without_call(seed)
    for sample in range(make.n if make.recipe.prompt.makes == "new" else 1):
        (reply,) = yield [make.call(sample=sample, n=1, already=(), **values_of(seed))]
        make.emit(with_answer(chat, reply.value), reply)


def think(seed: Seed, make: Making) -> Rollout:
    """The last answer given anew, behind the reasoning that leads to it."""
    chat = _without_call(seed)
    for sample in range(make.n if make.recipe.prompt.makes == "new" else 1):
        (reply,) = yield [make.call(sample=sample, n=1, already=(), **values_of(seed))]
        make.emit(with_answer(chat, f"<think>\n{reply.value.thoughts}\n</think>\n\n{reply.value.answer}"), reply)


def documents(seed: Seed, make: Making) -> Rollout:
    """n documents, one a call."""
    first = seed.draw * make.n if seed.record is None else 0
    for sample in range(make.n if make.recipe.prompt.makes == "new" else 1):
        (reply,) = yield [make.call(sample=first + sample, n=1, already=(), **values_of(seed))]
        make.emit(TextRecord(reply.value), reply)


def _without_call(seed: Seed) -> ChatRecord:
    """The seed, where its end is the assistant's: words cannot stand in for the call of a tool."""
    chat = conversation(seed.record)
    if chat.messages and chat.messages[-1].role == "function":
        raise CallFailed(Kind.REFUSED, "the row ends with the call of a tool, not with an answer", code="no answer")
    return chat
