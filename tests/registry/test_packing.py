"""Packing: every example once, no block over its size, and the counting form fills as many blocks."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.packing import count_blocks, pack_lengths

LENGTHS = st.lists(st.integers(0, 40), max_size=80)


@given(LENGTHS)
def test_every_example_is_packed_once_and_no_block_is_over_its_size(lengths):
    blocks = pack_lengths(lengths, 40)
    assert sorted(number for block in blocks for number in block) == list(range(len(lengths)))
    assert all(sum(lengths[number] for number in block) <= 40 for block in blocks)


@given(LENGTHS)
def test_counting_blocks_gives_what_packing_fills(lengths):
    assert count_blocks(Counter(lengths), 40) == len(pack_lengths(lengths, 40))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=80))
def test_no_two_blocks_could_be_one(lengths):
    """Best fit leaves no pair of blocks at most half full: the second would have gone into the first."""
    fills = [sum(lengths[n] for n in block) for block in pack_lengths(lengths, 40)]
    assert sum(fill <= 20 for fill in fills) <= 1


def test_the_fullest_block_with_room_takes_the_next_example():
    """By hand, room 10: 9 | 7 | 5; 4 joins the 5 (9 full), 3 joins the 7, 2 fits none, 1 joins a block of 9."""
    lengths = [5, 3, 9, 2, 7, 1, 4]
    blocks = [sorted(lengths[n] for n in block) for block in pack_lengths(lengths, 10)]
    assert sorted(map(sum, blocks)) == [2, 9, 10, 10]
    assert [3, 7] in blocks
    assert [4, 5] in blocks or [1, 4, 5] in blocks


def test_an_example_longer_than_a_block_is_refused():
    with pytest.raises(ValueError, match="11 tokens does not fit a block of 10"):
        pack_lengths([3, 11], 10)
    with pytest.raises(ValueError, match="11 tokens"):
        count_blocks({3: 1, 11: 1}, 10)
