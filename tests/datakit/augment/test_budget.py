"""What a run may use: counted with what is on the way, and told by the option that is used up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakit.augment.budget import Budget, Limits
from datakit.augment.prices import Price

PRICE = Price(1.0, 10.0)  # of a million tokens


def budget(price: Price | None = PRICE, **limits: float) -> Budget:
    return Budget(Limits(**limits), price, started=100.0)  # type: ignore[arg-type]


def test_without_limits_everything_may_go():
    assert budget().spent_by(1e9, 10**9, 10**9) is None


def test_requests_count_when_they_are_sent_whatever_becomes_of_them():
    one = budget(requests=2)
    one.reserve(1, 10, 10)
    one.settle(1)
    one.reserve(2, 10, 10)
    assert one.spent_by(100, 1, 1) == "--budget-requests"


def test_a_request_that_was_refused_for_now_is_given_back():
    one = budget(requests=1, tokens=25)
    one.reserve(1, 10, 10)
    assert one.spent_by(100, 1, 1) == "--budget-requests"
    one.unsend(1)
    assert one.spent_by(100, 10, 10) is None
    assert one.requests == one.tokens == 0


def test_tokens_on_the_way_count_as_they_were_guessed_and_then_as_they_were():
    one = budget(tokens=100)
    one.reserve(1, 20, 50)
    assert one.spent_by(100, 10, 21) == "--budget-tokens"
    assert one.spent_by(100, 10, 20) is None
    one.settle(1, 20, 10)
    assert (one.prompt_tokens, one.completion_tokens, one.tokens) == (20, 10, 30)
    assert one.spent_by(100, 30, 40) is None
    assert one.spent_by(100, 30, 41) == "--budget-tokens"


def test_money_counts_prompts_and_answers_at_their_prices():
    one = budget(cost=1.0)
    one.reserve(1, 500_000, 40_000)  # 0.5 and 0.4
    assert one.spent_by(100, 0, 20_000) == "--budget-cost"
    one.settle(1, 500_000, 10_000)
    assert one.cost == pytest.approx(0.6)
    assert one.spent_by(100, 0, 40_000) is None
    assert one.spent_by(100, 0, 40_001) == "--budget-cost"


def test_without_a_price_no_cost_is_known():
    one = budget(None)
    one.reserve(1, 5, 5)
    one.settle(1, 5, 5)
    assert one.cost is None


def test_minutes_count_from_the_start_of_the_run():
    one = budget(minutes=0.5)
    assert one.spent_by(130.0, 1, 1) is None
    assert one.spent_by(130.1, 1, 1) == "--budget-minutes"


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), st.sampled_from(["back", "failed", "refused"]))))
def test_when_all_calls_are_back_nothing_is_reserved(calls):
    one = budget()
    for number, (prompt, completion, _) in enumerate(calls):
        one.reserve(number, prompt, completion)
    for number, (prompt, completion, how) in enumerate(calls):
        if how == "refused":
            one.unsend(number)
        else:
            one.settle(number, *((prompt, completion) if how == "back" else ()))
    assert one._out_tokens == 0
    assert one._out_cost == pytest.approx(0)
    assert one.tokens == sum(p + c for p, c, how in calls if how == "back")
    assert one.requests == sum(how != "refused" for _, _, how in calls)
