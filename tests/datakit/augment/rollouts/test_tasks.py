"""New tasks, and harder ones, with the answers that they get from another recipe."""

from __future__ import annotations

from datakit.augment.failures import CallFailed, Kind
from datakit.augment.rollout import Seed
from datakit.augment.rollouts import ROLLOUTS
from tests.datakit.augment.rollouts.hand import chat, drive, instructions, making, seed_of, texts

WAYS = ["constraints", "depth", "reasoning", "broadening"]
REFUSED = CallFailed(Kind.REFUSED, "no")


def pool(draw: int = 0) -> Seed:
    return Seed(0, "", 0, None, pool=tuple(seed_of(chat(f"q{i}", "a"), i) for i in range(3)), draw=draw)


def test_self_instruct_shows_the_pool_and_answers_each_new_task():
    seed = pool()
    make = making("self-instruct", seed, n=2)
    given = {"instructions": [{"instruction": "Sum up:", "input": "x y"}, {"instruction": "Why?", "input": ""}]}
    log = drive(ROLLOUTS["self-instruct"](seed, make), [given, "x", "because"])
    assert log.rounds == [["self-instruct"], ["answer", "answer"]]
    assert [made.record for made in make.made] == [chat("Sum up:\nx y", "x"), chat("Why?", "because")]
    assert "q0" in (shown := log.calls[0].prompt.render(log.calls[0].values)[-1][1])
    assert "q2" in shown
    assert [[reply.call.prompt.name for reply in made.replies] for made in make.made] == [
        ["self-instruct", "answer"]
    ] * 2


def test_draws_that_show_the_same_pool_ask_for_other_answers():
    calls = [
        drive(
            ROLLOUTS["self-instruct"](pool(i), making("self-instruct", pool(i), n=1)), [instructions("a"), "b"]
        ).calls[0]
        for i in range(3)
    ]
    assert len({call.sample for call in calls}) == 3


def test_a_task_that_is_refused_does_not_take_the_others_with_it():
    seed = pool()
    make = making("self-instruct", seed, n=3)
    asked: list[str] = []

    def answer(call):  # type: ignore[no-untyped-def]
        if call.prompt.name == "self-instruct":
            return instructions("a", "b", "c")
        asked.append(call.values["seed"]["question"])
        return REFUSED if asked[-1] == "b" else f"to {asked[-1]}"

    log = drive(ROLLOUTS["self-instruct"](seed, make), answer)
    assert [made.record for made in make.made] == [chat("a", "to a"), chat("c", "to c")]
    assert log.failure is REFUSED
    assert asked == ["a", "b", "c", "a", "b", "c"]  # again one by one: the store has them


def test_a_fault_that_may_pass_is_not_tried_for_twice_as_long():
    seed = pool()
    failure = CallFailed(Kind.TIMEOUT, "late")
    log = drive(
        ROLLOUTS["self-instruct"](seed, making("self-instruct", seed, n=2)), [instructions("a", "b"), failure, "x"]
    )
    assert (log.failure, len(log.rounds)) == (failure, 2)


def test_evolve_takes_turns_with_the_ways_and_answers_what_it_made():
    seed = seed_of(chat("q", "a", "q2", "a2", system="s"))
    make = making("evolve", seed, n=5)
    log = drive(ROLLOUTS["evolve"](seed, make), [*(texts(f"t{i}") for i in range(5)), *(f"a{i}" for i in range(5))])
    assert log.rounds == [["evolve"]] * 5 + [["answer"] * 5]
    ways = [made.notes["way"] for made in make.made]
    assert sorted(ways[:4]) == sorted(WAYS)
    assert ways[4] == ways[0]
    assert [call.sample for call in log.calls[:5]] == [0, 0, 0, 0, 1]
    assert log.calls[2].values["already"] == ("t0", "t1")
    assert [made.record for made in make.made] == [chat(f"t{i}", f"a{i}", system="s") for i in range(5)]


def test_the_first_way_follows_from_what_the_seed_says_not_from_where_it_stands():
    def first_way(question: str, index: int) -> str:
        seed = seed_of(chat(question, "a"), index)
        make = making("evolve", seed, n=1)
        drive(ROLLOUTS["evolve"](seed, make), [texts("t"), "x"])
        return str(make.made[0].notes["way"])

    assert {first_way("q", index) for index in range(4)} == {first_way("q", 0)}
    assert {first_way(f"q{number}", 0) for number in range(40)} == set(WAYS)


def test_tasks_made_before_a_refusal_are_still_answered():
    seed = seed_of(chat("q", "a"))
    make = making("evolve", seed, n=3)
    log = drive(ROLLOUTS["evolve"](seed, make), [texts("t0"), REFUSED, "a0"])
    assert [made.record for made in make.made] == [chat("t0", "a0")]
    assert log.failure is REFUSED


def test_an_answer_is_asked_for_as_by_the_recipe_answer_itself():
    seed = seed_of(chat("q", "a"))
    log = drive(ROLLOUTS["evolve"](seed, making("evolve", seed, n=1)), [texts("t"), "x"])
    row = seed_of(chat("t", ""))
    own = drive(ROLLOUTS["answer"](row, making("answer", row)), ["x"])
    asked, alone = log.calls[-1], own.calls[0]
    assert asked.prompt.render(asked.values) == alone.prompt.render(alone.values)
    assert (asked.sample, asked.sampling) == (alone.sample, alone.sampling)
