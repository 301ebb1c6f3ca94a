"""Batches made ahead: in order, no further than asked, and with their errors where their step is."""

from __future__ import annotations

import time

import pytest

from trainkit.data.prefetch import AHEAD, Prefetch, Prepared, with_idle


def prepared(number: int) -> Prepared:
    return Prepared(number, [[number]], [], {"after": number})


def test_steps_come_in_their_order_from_the_one_to_start_at() -> None:
    with Prefetch(prepared, 3, 6) as ahead:
        assert [ahead.next().number for _ in range(3)] == [3, 4, 5]


def test_the_thread_never_runs_far_ahead() -> None:
    made: list[int] = []

    def make(number: int) -> Prepared:
        made.append(number)
        return prepared(number)

    with Prefetch(make, 0, 100) as ahead:
        ahead.next()
        time.sleep(0.2)
        assert len(made) <= 1 + AHEAD + 1  # the one taken, those waiting, the one in the thread's hands


def test_an_error_is_raised_where_its_step_is_asked_for() -> None:
    def make(number: int) -> Prepared:
        if number == 1:
            raise ValueError("row 7 is gone")
        return prepared(number)

    with Prefetch(make, 0, 3) as ahead:
        assert ahead.next().number == 0
        with pytest.raises(ValueError, match="row 7 is gone"):
            ahead.next()


def test_leaving_early_ends_the_thread() -> None:
    with Prefetch(prepared, 0, 1000) as ahead:
        ahead.next()
    assert not ahead._thread.is_alive()


def test_a_rank_with_fewer_micro_batches_is_filled_up_with_idle_ones() -> None:
    from array import array

    from registry.encode import Example
    from trainkit.data.collate import collate_sequences

    one = collate_sequences([Example(array("i", [1, 2]), array("i", [1, 2]))], [0], 0, strict=False)
    assert with_idle([one], 1, lambda: pytest.fail("not needed")) == [one]
    filled = with_idle([one], 3, lambda: pytest.fail("not needed"))
    assert [batch.idle for batch in filled] == [False, True, True]
    assert [batch.idle for batch in with_idle([], 2, lambda: one)] == [True, True]
