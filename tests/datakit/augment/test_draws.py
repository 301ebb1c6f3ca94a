"""Pools are drawn by what rows say: the order of rows does not matter, and one row more changes few draws."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from datakit.augment.draws import draw, keys_of
from registry.records import ChatRecord, Message, TextRecord


def row(text: str) -> ChatRecord:
    return ChatRecord((Message("user", text), Message("assistant", "a")))


def drawn(texts: list[str], size: int, number: int, seed: int = 0) -> list[str]:
    return [texts[at] for at in draw(keys_of(row(text) for text in texts), size, number, seed)]


@given(
    st.lists(st.integers(0, 30).map(str), max_size=60),
    st.integers(1, 8),
    st.integers(0, 5),
    st.randoms(use_true_random=False),
)
def test_a_draw_has_different_rows_and_does_not_depend_on_their_order(
    texts: list[str], size: int, number: int, rng: random.Random
):
    found = drawn(texts, size, number)
    assert len(found) == len(set(found)) == min(size, len(set(texts)))
    shuffled = list(texts)
    rng.shuffle(shuffled)
    assert drawn(shuffled, size, number) == found


def test_draws_differ_by_their_number_and_by_the_seed():
    texts = [str(i) for i in range(100)]
    assert len({tuple(drawn(texts, 6, number, seed)) for number in range(20) for seed in range(20)}) == 400


def test_one_row_more_changes_about_six_of_a_hundred_draws():
    texts = [str(i) for i in range(100)]
    changed = sum(drawn(texts, 6, number) != drawn([*texts, "new"], 6, number) for number in range(1000))
    assert 30 <= changed <= 90  # 6/101 of 1,000 are 59


def test_every_row_is_drawn_about_as_often_as_others():
    texts = [str(i) for i in range(20)]
    counts = dict.fromkeys(texts, 0)
    for number in range(1000):
        for text in drawn(texts, 5, number):
            counts[text] += 1
    assert 190 <= min(counts.values()) <= max(counts.values()) <= 310  # 250 each; six standard deviations are 82


def test_of_equal_rows_the_first_stands_for_all():
    assert draw(keys_of([TextRecord("a"), TextRecord("a"), TextRecord("b")]), 3, 0) in ([0, 2], [2, 0])
