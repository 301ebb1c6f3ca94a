"""Recipes whose answers hold finished rows, or all that a row needs besides its seed."""

from __future__ import annotations

from dataclasses import replace

from datakit.augment.calls import Progress, batch
from datakit.augment.rollout import Making, Rollout, Seed
from datakit.augment.seeds import conversation, from_dialogue, values_of, with_first_question
from datakit.augment.shapes import Dialogue, Pair
from registry.records import ChatRecord, Message, Record, TextRecord


def dialogues(seed: Seed, make: Making) -> Rollout:
    """n conversations; the seed's system prompt and tools hold for them too."""
    progress = Progress.of(make, seed)
    while progress.more:
        found, reply = yield from batch(make, progress, _first_question, **values_of(seed))
        for dialogue in found:
            make.emit(from_dialogue(dialogue, seed.record), reply)


def one_dialogue(seed: Seed, make: Making) -> Rollout:
    """The seed as a conversation: the first of the answer."""
    (reply,) = yield [make.call(n=1, already=(), **values_of(seed))]
    make.emit(from_dialogue(reply.value[0], seed.record), reply)


def pairs(seed: Seed, make: Making) -> Rollout:
    """n questions with answers, each a row."""
    progress = Progress.of(make, seed)
    while progress.more:
        found, reply = yield from batch(make, progress, _question, **values_of(seed))
        for pair in found:
            make.emit(from_pair(pair, seed.record), reply)


def one_pair(seed: Seed, make: Making) -> Rollout:
    """The seed as another question with its answer; no row where the answer holds none."""
    (reply,) = yield [make.call(n=1, already=(), **values_of(seed))]
    for pair in reply.value[:1]:
        make.emit(from_pair(pair, seed.record), reply)


def questions(seed: Seed, make: Making) -> Rollout:
    """n rows that ask the seed's first question in other ways; all that follows is kept."""
    chat = conversation(seed.record)
    progress = Progress.of(make, seed)
    while progress.more:
        found, reply = yield from batch(make, progress, str, **values_of(seed))
        for question in found:
            make.emit(with_first_question(chat, question), reply)


def documents(seed: Seed, make: Making) -> Rollout:
    """n documents."""
    progress = Progress.of(make, seed)
    while progress.more:
        found, reply = yield from batch(make, progress, str, **values_of(seed))
        for text in found:
            make.emit(TextRecord(text), reply)


def from_pair(pair: Pair, seed: Record | None) -> ChatRecord:
    """A row of one question and one answer, under the system prompt and with the tools of its seed, if that has some."""
    like = ChatRecord(()) if seed is None or isinstance(seed, TextRecord) else conversation(seed)
    return replace(like, messages=(Message("user", pair.question), Message("assistant", pair.answer)))


def _first_question(dialogue: Dialogue) -> str:
    return dialogue.turns[0].content


def _question(pair: Pair) -> str:
    return pair.question
