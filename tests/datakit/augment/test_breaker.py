"""When a run stops by itself: a canary that dies, a window that mostly fails, an outage without end."""

from __future__ import annotations

from datakit.augment.breaker import AT_LEAST, MOST_AT_START, MOST_IN_A_ROW, WINDOW, Breaker
from datakit.augment.failures import CallFailed, Kind

REFUSED = CallFailed(Kind.REFUSED, "no such parameter", code="400")
OUTAGE = CallFailed(Kind.SERVER, "internal error", code="500")


def test_ten_answers_open_the_lanes_once():
    breaker = Breaker()
    assert [breaker.ended(None) for _ in range(12)] == [None] * 9 + [""] + [None] * 2


def test_a_canary_of_which_all_are_refused_stops_the_run_with_the_reason():
    breaker = Breaker()
    assert [breaker.ended(REFUSED) for _ in range(9)] == [None] * 9
    assert breaker.ended(REFUSED) == ("all of the first 10 calls failed. For example: refused 400: no such parameter")


def test_one_answer_among_the_first_is_enough_to_go_on():
    breaker = Breaker()
    assert [breaker.ended(REFUSED) for _ in range(9)] == [None] * 9
    assert breaker.ended(None) == ""


def test_more_than_half_refused_of_the_last_hundred_stops_the_run():
    breaker = Breaker()
    for _ in range(50):
        assert not breaker.ended(None)
    verdicts = [breaker.ended(REFUSED) for _ in range(51)]
    assert verdicts[:50] == [None] * 50
    assert verdicts[50] == "51 of the last 100 calls failed for good. For example: refused 400: no such parameter"


def test_half_is_still_gone_on_with_for_ever():
    breaker = Breaker()
    assert not any(breaker.ended(failure) for _ in range(10 * WINDOW) for failure in (None, REFUSED))


def test_few_calls_are_not_judged():
    breaker = Breaker(canary=1)
    breaker.ended(None)
    assert [breaker.ended(REFUSED) for _ in range(AT_LEAST - 2)] == [None] * (AT_LEAST - 2)
    assert breaker.ended(REFUSED) is not None


def test_faults_that_pass_do_not_stop_a_run_until_nothing_else_comes():
    breaker = Breaker()
    for _ in range(2):
        breaker.ended(None)
        assert [breaker.ended(OUTAGE) for _ in range(MOST_IN_A_ROW - 1)] == [None] * (MOST_IN_A_ROW - 1)
    told = f"{MOST_IN_A_ROW} attempts in a row failed. The last one: server fault 500: internal error"
    assert breaker.ended(OUTAGE) == told


def test_a_server_that_never_answered_is_given_up_sooner():
    breaker = Breaker()
    assert [breaker.ended(OUTAGE) for _ in range(MOST_AT_START - 1)] == [None] * (MOST_AT_START - 1)
    verdict = breaker.ended(OUTAGE)
    assert verdict is not None
    assert verdict.startswith(f"Nothing was answered: {MOST_AT_START} attempts in a row failed.")


def unreadable(breaker: Breaker, message: str = "no JSON in it") -> str | None:
    """One call that was answered, corrected, answered again, and given up."""
    breaker.ended(None)
    breaker.ended(None)
    return breaker.unread(message)


def test_a_call_whose_two_answers_nobody_can_read_is_one_that_failed():
    breaker = Breaker()
    for _ in range(10):
        breaker.ended(None)
    verdicts = [unreadable(breaker) for _ in range(11)]
    assert verdicts[:10] == [None] * 10
    assert verdicts[10] == "11 of the last 21 calls failed for good. For example: no JSON in it"


def test_a_third_of_all_calls_unreadable_is_gone_on_with():
    breaker = Breaker()
    for _ in range(300):
        assert not breaker.ended(None)
        assert not breaker.ended(None)
        assert unreadable(breaker) is None


def test_the_example_is_of_what_failed_most():
    breaker = Breaker()
    for _ in range(10):
        breaker.ended(None)
    breaker.ended(REFUSED)
    verdict = None
    while verdict is None:
        verdict = unreadable(breaker, "prose")
    assert verdict.endswith("For example: prose")
