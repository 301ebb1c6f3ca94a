"""New tasks, each answered with the recipe ``answer``."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from datakit.augment.calls import Progress, batch, gathered, of_other
from datakit.augment.rollout import Call, Making, Reply, Rollout, Seed
from datakit.augment.seeds import asked, conversation, seed_value, values_of, with_answer
from datakit.augment.shapes import Instruction
from registry.records import ChatRecord, TextRecord


def tasks(seed: Seed, make: Making) -> Rollout:
    """n instructions, of a pool of seeds or of one, with their answers; an input stands below its instruction."""
    yield from _tasks(seed, make, _asked, _told)


def questions(seed: Seed, make: Making) -> Rollout:
    """n questions with their answers."""
    yield from _tasks(seed, make, str, str)


def _tasks(seed: Seed, make: Making, question_of: Callable[[Any], str], told: Callable[[Any], str]) -> Rollout:
    is_chat = seed.record is not None and not isinstance(seed.record, TextRecord)
    like = conversation(seed.record) if is_chat else ChatRecord(())
    progress = Progress.of(make, seed)
    if make.recipe.prompt.makes == "same":
        progress.wanted = 1
    while progress.more:
        found, reply = yield from batch(make, progress, told, **values_of(seed))
        yield from answered(make, [(asked(question_of(one), like.system, like.tools), reply, {}) for one in found])


def answered(
    make: Making, waiting: Sequence[tuple[ChatRecord, Reply, dict[str, Any]]]
) -> Generator[Sequence[Call], Sequence[Reply], None]:
    """Emit each (conversation, reply that it was read from, notes) with an answer of the recipe ``answer``.

    Raises the first ``CallFailed`` when all others have been emitted.
    """
    if not waiting:
        return
    prompt = make.other("answer").prompt
    replies, failure = yield from gathered([of_other(make, prompt, seed=seed_value(chat)) for chat, _, _ in waiting])
    for (chat, asking, notes), reply in zip(waiting, replies, strict=True):
        if reply is not None:
            make.emit(with_answer(chat, reply.value), asking, reply, **notes)
    if failure is not None:
        raise failure


def _asked(task: Instruction) -> str:
    return task.question


def _told(task: Instruction) -> str:
    return task.instruction
