"""Micro-batches with little padding; trying every way out is the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainkit.data import batching
from trainkit.data.batching import balanced, least_padding, length_grouped


def padded(lengths: list[int], micro: list[int]) -> int:
    return len(micro) * max(lengths[place] for place in micro)


def test_one_long_example_is_alone_and_the_short_ones_are_together() -> None:
    lengths = [10, 10, 1000, 10, 10, 10, 10, 10]
    (share,) = balanced(lengths, batch_size=2, accumulation=4, world=1)
    assert sorted(map(sorted, share)) == [[0, 1, 3, 4, 5, 6, 7], [2]]


def test_examples_of_one_length_are_shared_evenly_among_ranks() -> None:
    shares = balanced([100] * 4, batch_size=2, accumulation=2, world=2)
    assert [sum(map(len, share)) for share in shares] == [2, 2]


def test_the_busiest_rank_has_as_little_to_do_as_can_be() -> None:
    """Three of 100 and many of 10, two ranks: 200 on one, 100 and all the short ones on the other."""
    shares = balanced([100] * 3 + [10] * 9, batch_size=4, accumulation=2, world=2)
    assert sorted(sum(padded([100] * 3 + [10] * 9, m) for m in share) for share in shares) == [190, 200]


def test_no_examples_are_no_micro_batches() -> None:
    assert balanced([], batch_size=2, accumulation=2, world=2) == [[], []]


STEPS = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)).flatmap(
    lambda sizes: st.tuples(st.lists(st.integers(0, 50), max_size=sizes[0] * sizes[1] * sizes[2]), *map(st.just, sizes))
)


@given(STEPS)
def test_every_example_is_in_one_micro_batch_and_none_takes_more_memory_than_plain_could(
    step: tuple[list[int], int, int, int],
) -> None:
    lengths, batch_size, accumulation, world = step
    shares = balanced(lengths, batch_size, accumulation, world)
    assert len(shares) == world
    assert all(len(share) <= accumulation for share in shares)
    micro = [m for share in shares for m in share]
    assert sorted(place for m in micro for place in m) == list(range(len(lengths)))
    assert all(micro)
    assert all(padded(lengths, m) <= batch_size * max(lengths) for m in micro)


def test_a_short_step_leaves_no_rank_idle() -> None:
    assert balanced([100] * 2, batch_size=2, accumulation=1, world=2) == [[[0]], [[1]]]


def test_one_micro_batch_a_rank_is_cut_as_evenly_as_can_be() -> None:
    """[1000, 500] and 400 with five shorter ones: 2,000 and 2,400 padded tokens; 4,000 and 400 are as many in all."""
    shares = balanced([1000, 500, 400, 300, 100, 100, 100, 100], batch_size=4, accumulation=1, world=2)
    assert shares == [[[2, 3, 4, 5, 6, 7]], [[0, 1]]]


@given(STEPS)
def test_a_lone_rank_never_has_more_padding_than_in_plain_batches(step: tuple[list[int], int, int, int]) -> None:
    lengths, batch_size, accumulation, _ = step
    lengths = lengths[: batch_size * accumulation]
    (share,) = balanced(lengths, batch_size, accumulation, 1)
    places = list(range(len(lengths)))
    plain = [places[i : i + batch_size] for i in range(0, len(places), batch_size)]
    assert sum(padded(lengths, m) for m in share) <= sum(padded(lengths, m) for m in plain)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 3), st.integers(1, 6))
def test_cut_piece_by_piece_the_same_holds(lengths: list[int], batch_size: int, piece: int) -> None:
    accumulation = -(-len(lengths) // batch_size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "PIECE", piece)
        (share,) = balanced(lengths, batch_size, accumulation, 1)
    descending = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    fixed = [descending[i : i + batch_size] for i in range(0, len(lengths), batch_size)]
    assert sorted(place for micro in share for place in micro) == sorted(descending)
    assert len(share) <= accumulation
    assert sum(padded(lengths, m) for m in share) <= sum(padded(lengths, m) for m in fixed)


def every_cut(size: int, most: int) -> Iterator[list[int]]:
    for stretches in range(1, most + 1):
        yield from ([0, *inner, size] for inner in combinations(range(1, size), stretches - 1))


@given(st.lists(st.integers(0, 20), min_size=1, max_size=7), st.integers(1, 3))
def test_no_cut_has_less_padding(lengths: list[int], batch_size: int) -> None:
    descending = sorted(lengths, reverse=True)
    most, limit = -(-len(lengths) // batch_size), batch_size * max(lengths)

    def tokens(cuts: list[int]) -> list[int]:
        return [descending[a] * (b - a) for a, b in pairwise(cuts)]

    allowed = [cuts for cuts in every_cut(len(lengths), most) if max(tokens(cuts)) <= limit]
    found = least_padding(descending, most, limit)
    assert least_padding(descending, most, max(lengths) - 1) == []
    assert found in allowed
    assert (sum(tokens(found)), len(found)) == min((sum(tokens(cuts)), len(cuts)) for cuts in allowed)


def test_length_grouped_puts_the_longest_first() -> None:
    """Nine examples, one a step: megabatches of two, each from the longest on; 9 changes places with the first."""
    lengths = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    order = [0, 5, 1, 4, 8, 2, 3, 7, 6]
    assert length_grouped(lengths, order, 1) == [8, 0, 4, 1, 5, 2, 7, 3, 6]


@given(st.lists(st.integers(1, 50)), st.integers(1, 8))
def test_length_grouped_keeps_every_example(lengths: list[int], step_size: int) -> None:
    order = list(range(len(lengths)))[::-1]
    assert sorted(length_grouped(lengths, order, step_size)) == sorted(order)


@pytest.mark.parametrize("size", [1, 1000])
def test_one_length_costs_no_order(size: int) -> None:
    assert length_grouped([7] * size, range(size), 4) == list(range(size))
