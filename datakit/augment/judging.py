"""Judge after generate: made rows scored with the recipe ``judge``, whatever recipe made them."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from datakit.augment.calls import gathered, of_other
from datakit.augment.failures import FOR_GOOD, CallFailed
from datakit.augment.rollout import Call, Made, Making, Reply, Rollout
from datakit.augment.seeds import seed_value
from datakit.augment.shapes import Score
from registry.records import ChatRecord, Message, Record, TextRecord

JUDGE = "judge"


def judged(
    made: Made, make: Making, inputs: Mapping[str, Any] | None = None
) -> Generator[Sequence[Call], Sequence[Reply], Made]:
    """``made`` with the notes ``score`` (1 to 10) and ``reason``; of a preference pair the better answer is scored.

    ``inputs`` are those of the recipe ``judge``, such as its rubric. The judge's reply comes first in ``replies``: the
    last one stays that from which the row was read. Used in a rollout as ``made = yield from judged(made, make)``.
    """
    (reply,) = yield [_call(made, make, inputs)]
    return _scored(made, reply)


def judging(rollout: Rollout, make: Making, inputs: Mapping[str, Any] | None = None) -> Rollout:
    """A rollout whose rows are judged when it has ended, all at once; also those of one that failed for good.

    Rows that have a score are left as they are. A row that could not be judged stays without; its failure is raised in
    the end.
    """
    failure: CallFailed | None = None
    try:
        yield from rollout
    except CallFailed as stopped:
        if stopped.kind not in FOR_GOOD:
            raise
        failure = stopped
    waiting = [number for number, made in enumerate(make.made) if "score" not in made.notes]
    if waiting:
        calls = [_call(make.made[number], make, inputs) for number in waiting]
        replies, unjudged = yield from gathered(calls)
        for number, reply in zip(waiting, replies, strict=True):
            if reply is not None:
                make.made[number] = _scored(make.made[number], reply)
        failure = failure or unjudged
    if failure is not None:
        raise failure


def _call(made: Made, make: Making, inputs: Mapping[str, Any] | None) -> Call:
    return of_other(make, make.other(JUDGE).prompt, **{**(inputs or {}), "seed": seed_to_judge(made.record)})


def _scored(made: Made, reply: Reply) -> Made:
    return replace(made, replies=(reply, *made.replies), notes={**made.notes, **score_notes(reply.value)})


def score_notes(score: Score) -> dict[str, Any]:
    """What is noted of a judgement. Whole scores are whole numbers."""
    return {"score": int(score.score) if score.score == int(score.score) else score.score, "reason": score.reason}


def seed_to_judge(record: Record) -> dict[str, Any]:
    """A record as a judge sees it: always a conversation; a document is something that the assistant said."""
    if isinstance(record, TextRecord):
        return seed_value(ChatRecord((Message("assistant", record.text),)))
    return seed_value(record)
