"""Rows without seeds: pairs of question and answer, spread over the topics of the recipe."""

from __future__ import annotations

from datakit.augment.calls import Progress, gathered
from datakit.augment.rollout import Making, Rollout, Seed
from datakit.augment.rollouts.several import from_pair, pairs


def persona(seed: Seed, make: Making) -> Rollout:
    """n pairs, as many on each topic; the topic is noted in ``_origin``. Fewer rows than topics are asked for at once.

    Topics are asked for side by side, and know only of their own questions.
    """
    topics = make.recipe.prompt.data["topics"]
    if make.n < len(topics):
        yield from pairs(seed, make)
        return
    per_call = max(make.recipe.prompt.per_call, 1)
    shares = [make.n // len(topics) + (number < make.n % len(topics)) for number in range(len(topics))]
    progress = {topic: Progress(share, per_call) for topic, share in zip(topics, shares, strict=True)}
    first_failure = None
    while waiting := [topic for topic in progress if progress[topic].more]:
        replies, failure = yield from gathered(
            [
                make.call(sample=on.sample, n=on.n, already=tuple(on.already), topic=topic)
                for topic, on in ((topic, progress[topic]) for topic in waiting)
            ]
        )
        for topic, reply in zip(waiting, replies, strict=True):
            items = reply.value if reply is not None else []
            for pair in progress[topic].take(items, lambda pair: pair.question):
                make.emit(from_pair(pair, None), *([reply] if reply is not None else []), topic=topic)
        first_failure = first_failure or failure
    if first_failure is not None:
        raise first_failure
