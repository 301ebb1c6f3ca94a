"""Preference pairs: a worse answer written to a good one, or two answers and a judgement."""

from __future__ import annotations

import pytest

from datakit.augment.rollouts import ROLLOUTS
from registry.errors import UsageError
from registry.records import ChatRecord, Message, PreferenceRecord
from tests.datakit.augment.rollouts.hand import chat, drive, making, seed_of


def pair(*before: str, chosen: str, rejected: str, system: str = "") -> PreferenceRecord:
    messages = chat(*before).messages
    return PreferenceRecord(messages, Message("assistant", chosen), Message("assistant", rejected), system)


def verdict(winner: str) -> dict[str, str]:
    return {"reason": "because", "winner": winner}


def test_a_good_answer_gets_a_worse_one():
    seed = seed_of(chat("q", "a", "q2", "good", system="s"))
    make = making("preference", seed)
    log = drive(ROLLOUTS["preference"](seed, make), ["worse"])
    assert [made.record for made in make.made] == [pair("q", "a", "q2", chosen="good", rejected="worse", system="s")]
    assert dict(make.made[0].notes) == {"preference": "worse"}
    assert log.rounds == [["preference"]]


def test_a_row_without_an_answer_is_answered_first():
    seed = seed_of(chat("q", ""))
    make = making("preference", seed)
    log = drive(ROLLOUTS["preference"](seed, make), ["good", "worse"])
    assert log.rounds == [["answer"], ["preference"]]
    assert [made.record for made in make.made] == [pair("q", chosen="good", rejected="worse")]
    assert len(make.made[0].replies) == 2


@pytest.mark.parametrize("winner", ["A", "B"])
def test_of_two_answers_the_better_is_chosen_whichever_is_shown_first(winner: str):
    shown_first = set()
    for number in range(8):
        seed = seed_of(chat(f"q{number}", "kept out", system="s"))
        make = making("preference", seed, mode="judged")
        log = drive(ROLLOUTS["preference"](seed, make), ["one", "two", verdict(winner)])
        assert log.rounds == [["answer", "answer"], ["compare"]]
        assert [call.sample for call in log.calls] == [0, 1, 0]
        shown = log.calls[2].values
        better, worse = (shown["answer_a"], shown["answer_b"])[:: 1 if winner == "A" else -1]
        assert [made.record for made in make.made] == [pair(f"q{number}", chosen=better, rejected=worse, system="s")]
        assert dict(make.made[0].notes) == {"preference": "judged", "reason": "because"}
        assert make.made[0].replies[-1].value == better
        shown_first.add(shown["answer_a"])
    assert shown_first == {"one", "two"}


def test_equal_answers_make_no_row_and_say_so():
    seed = seed_of(chat("q", "a"))
    make = making("preference", seed, mode="judged")
    log = drive(ROLLOUTS["preference"](seed, make), ["one", "two", verdict("tie")])
    assert log.failure is not None
    assert (make.made, log.failure.code, log.failure.reason) == ([], "tie", "neither answer is better: because")
    log = drive(ROLLOUTS["preference"](seed, make), ["same", "same"])
    assert log.failure is not None
    assert (make.made, log.failure.code) == ([], "tie")


def test_an_unknown_mode_is_told_with_the_nearest():
    seed = seed_of(chat("q", "a"))
    with pytest.raises(UsageError) as caught:
        drive(ROLLOUTS["preference"](seed, making("preference", seed, mode="judge")), [])
    assert str(caught.value) == 'unknown mode "judge"\n  Did you mean "judged"? --set mode=worse or judged'


def test_a_row_that_ends_with_the_call_of_a_tool_is_told():
    seed = seed_of(ChatRecord((Message("user", "q"), Message("function", "{}"))))
    log = drive(ROLLOUTS["preference"](seed, making("preference", seed)), [])
    assert log.failure is not None
    assert log.failure.code == "no answer"
