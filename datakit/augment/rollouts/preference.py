"""Preference pairs: a worse answer for a good one, or two answers and a judgement between them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from datakit.augment.calls import of_other
from datakit.augment.failures import CallFailed, Kind
from datakit.augment.rollout import Call, Making, Reply, Rollout, Seed
from datakit.augment.seeds import answer_of, content_key, conversation, is_answered, seed_value, unanswered, with_answer
from registry.errors import UsageError, did_you_mean
from registry.records import ChatRecord, Message, PreferenceRecord

if TYPE_CHECKING:
    from datakit.recipes.recipe import Prompt

MODES = ("worse", "judged")


def preference(seed: Seed, make: Making) -> Rollout:
    """A pair by the input ``mode``, which is noted in ``_origin``.

    - worse (default): the row's answer, or one that is asked for first, is the better one; the worse is written to it
    - judged: two answers of the recipe ``answer``, of which the step ``compare`` chooses; its reason is noted

    Raises ``UsageError`` for another mode, ``CallFailed`` with the code ``tie`` where neither answer is better.
    """
    mode = str(make.values.get("mode") or MODES[0])
    if mode not in MODES:
        raise UsageError(
            f'unknown mode "{mode}"', mend=f"{did_you_mean(mode, MODES)} --set mode={' or '.join(MODES)}".strip()
        )
    chat = conversation(seed.record)
    if chat.messages and chat.messages[-1].role == "function":
        raise CallFailed(Kind.REFUSED, "the row ends with the call of a tool, not with an answer", code="no answer")
    yield from (_worse if mode == "worse" else _judged)(chat, make)


def _worse(chat: ChatRecord, make: Making) -> Rollout:
    replies: tuple[Reply, ...] = ()
    if not is_answered(chat):
        replies = tuple((yield [_answer(make, chat)]))
        chat = with_answer(chat, replies[0].value)
    (reply,) = yield [make.call(n=1, already=(), seed=seed_value(chat))]
    make.emit(_pair(chat, answer_of(chat), reply.value), *replies, reply, preference="worse")


def _judged(chat: ChatRecord, make: Making) -> Rollout:
    one, other = yield [_answer(make, chat, sample) for sample in (0, 1)]
    if one.value == other.value:
        raise CallFailed(Kind.REFUSED, "both answers say the same, word for word", code="tie")
    # Judges like the first answer better; which one is shown first follows from the row, not from who wrote it when.
    if content_key(chat) & 1:
        one, other = other, one
    compared = yield from _compared(chat, make, one.value, other.value)
    verdict = compared.value
    if verdict.winner == "tie":
        raise CallFailed(Kind.REFUSED, f"neither answer is better: {verdict.reason}", code="tie")
    chosen, rejected = (one, other) if verdict.winner == "A" else (other, one)
    notes = {"preference": "judged", "reason": verdict.reason}
    # The last reply is the one that the row is told to come from: the better answer, not the judgement.
    make.emit(_pair(chat, chosen.value, rejected.value), compared, rejected, chosen, **notes)


def _compared(
    chat: ChatRecord, make: Making, answer_a: str, answer_b: str
) -> Generator[Sequence[Call], Sequence[Reply], Reply]:
    compare = make.recipe.steps.get("compare") or make.other("preference").steps["compare"]
    (reply,) = yield [of_other(make, compare, seed=seed_value(chat), answer_a=answer_a, answer_b=answer_b)]
    return reply


def _answer(make: Making, chat: ChatRecord, sample: int = 0) -> Call:
    prompt: Prompt = make.other("answer").prompt
    return of_other(make, prompt, sample=sample, seed=seed_value(unanswered(chat)))


def _pair(chat: ChatRecord, chosen: str, rejected: str) -> PreferenceRecord:
    prompt = unanswered(chat).messages
    return PreferenceRecord(
        prompt, Message("assistant", chosen), Message("assistant", rejected), chat.system, chat.tools
    )
