"""Several rows of one seed: how they are asked for, when it is enough, what of the seed they keep."""

from __future__ import annotations

from datakit.augment.failures import CallFailed, Kind
from datakit.augment.rollouts import ROLLOUTS
from registry.records import TextRecord
from tests.datakit.augment.rollouts.hand import chat, dialogues, drive, making, pairs, seed_of, texts


def test_expand_asks_for_five_at_a_time_and_says_what_was_asked_already():
    seed = seed_of(chat("q", "a", system="s", tools="[]"))
    make = making("expand", seed, n=7)
    log = drive(ROLLOUTS["expand"](seed, make), [dialogues("a", "b", "c", "d", "e"), dialogues("f", "g")])
    assert [(call.values["n"], call.values["already"], call.sample) for call in log.calls] == [
        (5, (), 0),
        (2, ("a", "b", "c", "d", "e"), 1),
    ]
    assert [made.record for made in make.made] == [chat(q, f"to {q}", system="s", tools="[]") for q in "abcdefg"]
    assert [made.replies[-1].call is log.calls[0] for made in make.made] == [True] * 5 + [False] * 2
    assert all(made.seeds == (seed,) for made in make.made)


def test_the_first_calls_are_the_same_for_more_rows():
    seed = seed_of(chat("q", "a"))
    first = [dialogues("a", "b", "c", "d", "e")]
    few = drive(ROLLOUTS["expand"](seed, making("expand", seed, n=5)), first)
    many = drive(ROLLOUTS["expand"](seed, making("expand", seed, n=10)), [*first, dialogues("f", "g", "h", "i", "j")])
    assert few.calls[0] == many.calls[0]


def test_a_model_that_gives_too_few_is_asked_two_times_more_and_not_for_ever():
    seed = seed_of(chat("q", "a"))
    make = making("expand", seed, n=10)
    log = drive(ROLLOUTS["expand"](seed, make), lambda call: dialogues("same"))
    assert [call.values["n"] for call in log.calls] == [5, 5, 5, 5]
    assert [call.values["already"] for call in log.calls] == [(), ("same",), ("same",), ("same",)]
    assert len({call.sample for call in log.calls}) == 4  # equal requests, other answers
    assert len(make.made) == 4


def test_what_is_above_the_number_asked_for_is_left():
    seed = seed_of(chat("q", "a"))
    make = making("expand", seed, n=2)
    drive(ROLLOUTS["expand"](seed, make), [dialogues("a", "b", "c")])
    assert len(make.made) == 2


def test_rows_that_were_made_stay_when_a_later_call_fails():
    seed = seed_of(chat("q", "a"))
    make = making("expand", seed, n=10)
    refused = CallFailed(Kind.REFUSED, "no")
    log = drive(ROLLOUTS["expand"](seed, make), [dialogues("a", "b", "c", "d", "e"), refused])
    assert (len(make.made), log.failure) == (5, refused)


def test_paraphrase_changes_the_first_question_and_keeps_all_answers():
    seed = seed_of(chat("q", "a", "q2", "a2", system="s"))
    make = making("paraphrase", seed, n=3)
    log = drive(ROLLOUTS["paraphrase"](seed, make), [texts("x", "y"), texts("z")])
    assert [made.record for made in make.made] == [chat(q, "a", "q2", "a2", system="s") for q in "xyz"]
    assert log.calls[1].values["already"] == ("x", "y")


def test_qa_from_text_makes_pairs_of_a_piece_until_it_holds_no_more():
    seed = seed_of(TextRecord("A long text."))
    make = making("qa-from-text", seed, n=8)
    log = drive(ROLLOUTS["qa-from-text"](seed, make), [pairs("a", "b"), pairs()])
    assert [made.record for made in make.made] == [chat("a", "to a"), chat("b", "to b")]
    assert len(log.calls) == 2
    assert "A long text." in log.calls[0].prompt.render(log.calls[0].values)[-1][1]


def test_multi_turn_makes_one_conversation_under_the_seeds_system_prompt():
    seed = seed_of(chat("q", "a", system="s"))
    make = making("multi-turn", seed, turns=2)
    log = drive(ROLLOUTS["multi-turn"](seed, make), [dialogues("x", "y")])
    assert [made.record for made in make.made] == [chat("x", "to x", system="s")]
    assert "Exchanges wanted: 2" in log.calls[0].prompt.render(log.calls[0].values)[-1][1]
