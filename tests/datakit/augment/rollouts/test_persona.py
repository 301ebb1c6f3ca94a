"""Rows on who the assistant is, spread over topics."""

from __future__ import annotations

from collections import Counter

from datakit.augment.failures import CallFailed, Kind
from datakit.augment.rollouts import ROLLOUTS
from datakit.recipes.recipe import load_recipe
from tests.datakit.augment.rollouts.hand import drive, making, pairs, seed_of

TOPICS = load_recipe("persona").prompt.data["topics"]


def asked(call):  # type: ignore[no-untyped-def]
    return pairs(*(f"{call.values['topic']} {call.sample}.{i}" for i in range(call.values["n"])))


def test_rows_are_spread_evenly_over_the_topics():
    seed = seed_of(None)
    make = making("persona", seed, n=2 * len(TOPICS) + 1, name="Pip", author="Anna")
    log = drive(ROLLOUTS["persona"](seed, make), asked)
    assert [len(one) for one in log.rounds] == [len(TOPICS)]
    counts = Counter(made.notes["topic"] for made in make.made)
    assert [counts[topic] for topic in TOPICS] == [3] + [2] * (len(TOPICS) - 1)
    assert "Pip" in log.calls[0].prompt.render(log.calls[0].values)[0][1]


def test_a_topic_with_many_rows_is_asked_for_again_with_what_it_has():
    seed = seed_of(None)
    make = making("persona", seed, n=7 * len(TOPICS), name="Pip", author="Anna")
    log = drive(ROLLOUTS["persona"](seed, make), asked)
    assert [[call.values["n"] for call in log.calls].count(n) for n in (5, 2)] == [len(TOPICS)] * 2
    assert len(log.calls[-1].values["already"]) == 5
    assert len({made.record for made in make.made}) == 7 * len(TOPICS)


def test_fewer_rows_than_topics_are_asked_for_over_all_topics():
    seed = seed_of(None)
    make = making("persona", seed, n=3, name="Pip", author="Anna")
    log = drive(ROLLOUTS["persona"](seed, make), [pairs("a", "b", "c")])
    assert [call.values["n"] for call in log.calls] == [3]
    assert len(make.made) == 3


def test_a_topic_that_is_refused_leaves_the_others():
    seed = seed_of(None)
    make = making("persona", seed, n=len(TOPICS), name="Pip", author="Anna")
    refused = CallFailed(Kind.REFUSED, "no")
    log = drive(
        ROLLOUTS["persona"](seed, make), lambda call: refused if call.values["topic"] == TOPICS[2] else asked(call)
    )
    assert [made.notes["topic"] for made in make.made] == [topic for topic in TOPICS if topic != TOPICS[2]]
    assert log.failure is refused
