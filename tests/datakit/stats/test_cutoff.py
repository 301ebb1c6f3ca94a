"""Padding, packing and steps at one cutoff, by hand and against every order of the rows."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datakit.stats.cutoff import Steps, at_cutoff, in_blocks, padded_positions
from datakit.stats.lengths import Lengths
from registry.packing import pack_lengths


def of(*rows: tuple[int, int]) -> Lengths:
    lengths = Lengths("chat")
    for row in rows:
        lengths.add([row])
    return lengths


def test_padding_and_packing_by_hand():
    """Rows of 10 and 30 in one batch are padded to 32 each: 24 of 64 places are empty. Packed into 40: one full block."""
    found = at_cutoff(of((4, 6), (10, 20)), 40)
    assert found.padding_waste == 24 / 64
    assert (found.blocks, found.packing_efficiency) == (1, 1.0)
    assert found.steps_per_epoch == 1


@settings(max_examples=30)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 4))
def test_padding_is_the_mean_over_all_orders_of_the_rows(rows, batch_size):
    def positions(order):
        batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        return sum(len(batch) * (-(-max(batch) // 8) * 8) for batch in batches)

    orders = list(permutations(rows))
    mean = sum(map(positions, orders)) / len(orders)
    counts = {length: rows.count(length) for length in rows}
    assert padded_positions(counts, batch_size) == pytest.approx(mean)


def test_padding_does_not_depend_on_how_the_file_is_sorted():
    mixed, sorted_rows = of(*[(4, 4), (4, 60)] * 8), of(*[(4, 4)] * 8, *[(4, 60)] * 8)
    assert at_cutoff(mixed, 64).padding_waste == at_cutoff(sorted_rows, 64).padding_waste > 0.3


def test_a_pair_is_padded_to_the_longer_of_both():
    lengths = Lengths("preference")
    lengths.add([(4, 4), (4, 12)])
    found = at_cutoff(lengths, 64)
    assert found.padding_waste == 1 - (8 + 16) / (16 + 16)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30)), min_size=1, max_size=30), st.integers(1, 70))
def test_blocks_are_those_of_the_packer(rows, cutoff):
    lengths = of(*rows)
    (cut,) = lengths.chunks()
    sequences = [n for n in cut.kept(cutoff).sequences[0].tolist() if n]
    found = at_cutoff(lengths, cutoff)
    assert found.blocks == len(pack_lengths(sequences, cutoff))
    assert found.rows_lost == len(rows) - len(sequences)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (Steps(), 3),  # 17 rows in batches of 8
        (Steps(batch_size=4), 5),
        (Steps(batch_size=4, accumulation=2), 3),
        (Steps(batch_size=1, accumulation=100), 1),
        (Steps(batch_size=2, packing=True), 2),  # 8 rows of 8 tokens a block of 64: 3 blocks
    ],
)
def test_steps_of_an_epoch_are_batches_over_accumulation_both_rounded_up(steps, expected):
    assert at_cutoff(of(*[(4, 4)] * 17), 64, steps=steps).steps_per_epoch == expected


def test_text_is_cut_into_blocks_and_a_bos_takes_a_place_in_each():
    without, with_bos = (in_blocks(100, 10, opens_with_bos=bos) for bos in (False, True))
    assert (without.blocks, without.tokens_lost, without.steps_per_epoch) == (10, 0, 2)
    assert (with_bos.blocks, with_bos.tokens_lost) == (11, 1)


def test_a_monstrous_row_costs_no_memory_of_its_length():
    found = at_cutoff(of((10, 10), (10, 50_000_000)), 60_000_000)
    assert (found.blocks, found.rows_truncated) == (1, 0)
