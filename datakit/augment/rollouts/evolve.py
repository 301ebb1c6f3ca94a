"""Harder tasks: a seed's question made harder in several ways, each then answered."""

from __future__ import annotations

from datakit.augment.failures import FOR_GOOD, CallFailed
from datakit.augment.rollout import Making, Reply, Rollout, Seed
from datakit.augment.rollouts.tasks import answered
from datakit.augment.seeds import asked, content_key, conversation, values_of
from registry.records import ChatRecord


def evolve(seed: Seed, make: Making) -> Rollout:
    """n harder tasks, under the seed's system prompt and with its tools; the way is noted in ``_origin``.

    The ways take turns. The first one follows from what the seed says, so that each comes equally often where one row is
    made of each seed, and a seed keeps its ways wherever it stands.
    """
    chat = conversation(seed.record)
    ways = list(make.recipe.prompt.data["ways"])
    first = content_key(seed.record) % len(ways)
    tasks: list[tuple[ChatRecord, Reply, dict[str, str]]] = []
    failure: CallFailed | None = None
    while len(tasks) < make.n:
        count = len(tasks)
        way = ways[(first + count) % len(ways)]
        already = tuple(task.messages[0].content for task, _, _ in tasks)
        try:
            (reply,) = yield [
                make.call(sample=count // len(ways), n=1, already=already, way=way, **values_of(seed)),
            ]
        except CallFailed as stopped:
            failure = stopped  # what was made so far is answered first
            break
        tasks.append((asked(reply.value[0], chat.system, chat.tools), reply, {"way": way}))
    if failure is None or failure.kind in FOR_GOOD:
        yield from answered(make, tasks)
    if failure is not None:
        raise failure
