"""What is kept of a conversation, by lengths alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from registry.cuts import whole_turns

THREE = [(4, 2), (3, 1), (2, 2)]  # 6, 4 and 4 tokens
LENGTHS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6)


def test_from_the_start_whole_turns_are_kept_while_they_fit() -> None:
    found = {budget: list(whole_turns(THREE, budget, from_end=False)) for budget in (5, 6, 9, 10, 13, 14)}
    assert found == {5: [], 6: [0], 9: [0], 10: [0, 1], 13: [0, 1], 14: [0, 1, 2]}


def test_from_the_end_they_are_the_last_ones() -> None:
    found = {budget: list(whole_turns(THREE, budget, from_end=True)) for budget in (3, 4, 7, 8, 13, 14)}
    assert found == {3: [], 4: [2], 7: [2], 8: [1, 2], 13: [1, 2], 14: [0, 1, 2]}


def test_the_system_text_takes_its_room_unless_its_own_turn_is_kept() -> None:
    found = {budget: list(whole_turns(THREE, budget, from_end=True, lead=3)) for budget in (6, 7, 10, 11, 13, 14)}
    assert found == {6: [], 7: [2], 10: [2], 11: [1, 2], 13: [1, 2], 14: [0, 1, 2]}


@given(LENGTHS, st.integers(0, 60), st.booleans(), st.integers(0, 9))
def test_what_is_kept_fits_and_one_turn_more_would_not(
    lengths: list[tuple[int, int]], budget: int, from_end: bool, lead: int
) -> None:
    lead = min(lead, lengths[0][0]) if from_end else 0
    kept = whole_turns(lengths, budget, from_end=from_end, lead=lead)

    def room(turns: range) -> int:
        return sum(sum(lengths[turn]) for turn in turns) + (lead if turns and turns[0] else 0)

    assert not kept or room(kept) <= budget
    more = range(kept.start - 1, len(lengths)) if from_end else range(len(kept) + 1)
    if len(kept) < len(lengths):
        assert room(more) > budget
