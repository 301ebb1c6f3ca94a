"""Rows as they are, with a score: the recipe that judges instead of making."""

from __future__ import annotations

from datakit.augment.judging import score_notes, seed_to_judge
from datakit.augment.rollout import Making, Rollout, Seed


def judge(seed: Seed, make: Making) -> Rollout:
    """The row with ``score`` and ``reason`` noted; which scores are enough is for the filter to say."""
    assert seed.record is not None, "the recipe has seeds: chat or text"
    (reply,) = yield [make.call(n=1, already=(), seed=seed_to_judge(seed.record))]
    make.emit(seed.record, reply, **score_notes(reply.value))
