"""Rows scored: by the recipe that does nothing else, and after any other."""

from __future__ import annotations

from typing import Any

from datakit.augment.failures import CallFailed, Kind
from datakit.augment.judging import judged, judging
from datakit.augment.rollout import Made, Making, Rollout
from datakit.augment.rollouts import ROLLOUTS
from registry.records import Message, PreferenceRecord, TextRecord
from tests.datakit.augment.rollouts.hand import chat, drive, making, seed_of, texts

REFUSED = CallFailed(Kind.REFUSED, "no")


def score(number: float) -> dict[str, Any]:
    return {"reason": "because", "score": number}


def test_judge_passes_the_row_with_its_score_noted():
    seed = seed_of(chat("q", "a"))
    make = making("judge", seed, rubric="Only this: short.")
    log = drive(ROLLOUTS["judge"](seed, make), [score(7)])
    assert [(made.record, dict(made.notes)) for made in make.made] == [
        (chat("q", "a"), {"score": 7, "reason": "because"})
    ]
    assert type(make.made[0].notes["score"]) is int
    assert "Only this: short." in log.calls[0].prompt.render(log.calls[0].values)[0][1]


def one(made: Made, make: Making) -> Rollout:
    make.made.append((yield from judged(made, make, {"rubric": "short"})))


def test_one_made_row_gets_its_score_beside_its_other_notes():
    seed = seed_of(chat("q", "a"))
    make = making("expand", seed)
    pair = PreferenceRecord(chat("q").messages, Message("assistant", "good"), Message("assistant", "bad"))
    log = drive(one(Made(pair, (), (seed,), {"preference": "worse"}), make), [score(8.5)])
    (made,) = make.made
    assert dict(made.notes) == {"preference": "worse", "score": 8.5, "reason": "because"}
    assert log.calls[0].values["seed"]["answer"] == "good"
    assert log.calls[0].values["rubric"] == "short"


def test_all_rows_of_a_rollout_are_judged_at_its_end_and_still_come_from_their_own_answers():
    seed = seed_of(chat("q", "a"))
    make = making("paraphrase", seed, n=2)
    log = drive(judging(ROLLOUTS["paraphrase"](seed, make), make), [texts("x", "y"), score(3), score(9)])
    assert log.rounds == [["paraphrase"], ["judge", "judge"]]
    assert [made.notes["score"] for made in make.made] == [3, 9]
    assert [made.replies[-1].call.prompt.name for made in make.made] == ["paraphrase"] * 2


def test_a_row_that_cannot_be_judged_has_no_score_and_the_failure_is_told():
    seed = seed_of(chat("q", "a"))
    make = making("paraphrase", seed, n=2)

    def answer(call: Any) -> Any:
        if call.prompt.name == "paraphrase":
            return texts("x", "y")
        return REFUSED if call.values["seed"]["question"] == "x" else score(9)

    log = drive(judging(ROLLOUTS["paraphrase"](seed, make), make), answer)
    assert [made.notes.get("score") for made in make.made] == [None, 9]
    assert log.failure is REFUSED


def test_rows_made_before_a_refusal_are_judged_too():
    seed = seed_of(chat("q", "a"))
    make = making("evolve", seed, n=2)
    log = drive(judging(ROLLOUTS["evolve"](seed, make), make), [texts("t"), REFUSED, "answer", score(5)])
    assert [made.notes["score"] for made in make.made] == [5]
    assert log.failure is REFUSED


def test_scored_rows_are_not_scored_again_and_no_rows_need_no_call():
    seed = seed_of(chat("q", "a"))
    make = making("judge", seed)
    assert len(drive(judging(ROLLOUTS["judge"](seed, make), make), [score(7)]).calls) == 1
    make = making("self-instruct", seed)
    assert drive(judging(iter(()), make), []).calls == []  # type: ignore[arg-type]


def test_a_document_is_judged_as_what_the_assistant_said():
    make = making("judge", seed_of(TextRecord("words")))
    log = drive(ROLLOUTS["judge"](seed_of(TextRecord("words")), make), [score(2)])
    assert log.calls[0].values["seed"]["answer"] == "words"
    assert make.made[0].record == TextRecord("words")
