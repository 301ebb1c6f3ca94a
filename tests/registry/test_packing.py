"""Packing: every example once, no block over its size, and the counting form fills as many blocks."""

import json
from array import array
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.packing import count_blocks, count_epoch, knapsack, knapsack_windows, pack_epoch, pack_lengths
from tests.conftest import SHARED, needs_shared

LENGTHS = st.lists(st.integers(0, 40), max_size=80)
WINDOWS = st.integers(1, 90)


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


@pytest.mark.parametrize("kind", [np.asarray, lambda lengths: array("i", lengths)])
def test_lengths_may_be_an_array(kind):
    lengths = [5, 3, 9, 2, 7, 1, 4]
    assert pack_lengths(kind(lengths), 2048) == pack_lengths(lengths, 2048)
    assert knapsack(kind(lengths), 10) == knapsack(lengths, 10)
    assert pack_epoch(kind(lengths), 2048, kind(range(7))) == pack_epoch(lengths, 2048, range(7))


def shuffled(lengths, seed):
    return np.random.default_rng(seed).permutation(len(lengths)).tolist()


@given(LENGTHS, WINDOWS, st.integers(0, 9), st.booleans())
def test_an_epoch_packs_every_example_once_and_no_block_is_over_its_size(lengths, window, seed, in_file_order):
    order = None if in_file_order else shuffled(lengths, seed)
    blocks = pack_epoch(lengths, 40, order, window=window)
    assert sorted(n for block in blocks for n in block) == list(range(len(lengths)))
    assert all(sum(lengths[n] for n in block) <= 40 for block in blocks)
    assert pack_epoch(lengths, 40, order, window=window) == blocks


@given(LENGTHS, WINDOWS, st.integers(0, 9))
def test_every_epoch_has_as_many_blocks(lengths, window, seed):
    blocks = pack_epoch(lengths, 40, shuffled(lengths, seed), window=window)
    assert len(blocks) == count_epoch(lengths, 40, shuffled=True, window=window)
    assert len(pack_epoch(lengths, 40, window=window)) == count_epoch(lengths, 40, shuffled=False, window=window)


def test_another_epoch_has_other_neighbours_among_examples_of_one_length():
    """Twelve of length 5, two to a block: 10,395 ways to pair them up."""
    pairs = [{frozenset(block) for block in pack_epoch([5] * 12, 10, shuffled([5] * 12, seed))} for seed in (1, 2)]
    assert pairs[0] != pairs[1]


def test_in_file_order_blocks_come_by_their_first_example_and_windows_are_stretches():
    """Room 10, two windows of four: 6 and 4 fill a block, 5 and 5; then 9, 8 with 2, and 7."""
    assert pack_epoch([6, 5, 4, 5, 9, 8, 2, 7], 10, window=4) == [[0, 2], [1, 3], [4], [5, 6], [7]]


def test_shuffled_windows_take_every_nth_example():
    """Two windows: 0, 2, 4 and 1, 3, 5. No block has an even and an odd one."""
    blocks = pack_epoch([3] * 6, 9, [5, 0, 3, 4, 1, 2], window=3)
    assert sorted(map(sorted, blocks)) == [[0, 2, 4], [1, 3, 5]]


def test_lengths_of_chats_fill_98_hundredths_of_their_blocks():
    """Lognormal lengths around 180 tokens, as instruction data has them."""
    lengths = np.clip(np.random.default_rng(0).lognormal(5.2, 0.8, 20_000), 8, 2048).astype(int)
    blocks = pack_epoch(lengths, 2048, shuffled(lengths, 1))
    assert lengths.sum() / (2048 * len(blocks)) > 0.98


@needs_shared
def test_alpaca_fills_98_hundredths_of_its_blocks():
    """Lengths in bytes over 4, near enough to tokens."""
    rows = json.loads((SHARED / "data" / "alpaca_en_demo.json").read_text("utf-8"))
    lengths = [max(sum(len(value.encode()) for value in row.values()) // 4, 1) for row in rows]
    blocks = pack_epoch(lengths, 2048, shuffled(lengths, 0))
    assert sum(lengths) / (2048 * len(blocks)) > 0.98


def test_llamafactorys_packing_takes_the_largest_that_fits():
    lengths = [5, 3, 9, 2, 7, 1, 4]
    assert [[lengths[n] for n in block] for block in knapsack(lengths, 10)] == [[9, 1], [7, 3], [5, 4], [2]]


def test_llamafactorys_packing_hands_out_the_last_of_one_length_first():
    assert knapsack([5, 5, 5], 10) == [[2, 1], [0]]


@given(LENGTHS)
def test_llamafactorys_packing_keeps_every_example_once(lengths):
    blocks = knapsack(lengths, 40)
    assert sorted(n for block in blocks for n in block) == list(range(len(lengths)))
    assert all(sum(lengths[n] for n in block) <= 40 for block in blocks)


def test_llamafactorys_packing_refuses_what_fits_no_block():
    with pytest.raises(ValueError, match="11 tokens does not fit a block of 10"):
        knapsack([3, 11], 10)


def test_windows_are_counted_in_rows_whether_or_not_they_became_examples():
    assert knapsack_windows([5, 5, 5, 5], 10, [0, 0, 0, 1]) == [[2, 1], [0], [3]]
    assert knapsack_windows([5, 5, 5, 5], 10, [0, 0, 1, 1]) == [[1, 0], [3, 2]]
