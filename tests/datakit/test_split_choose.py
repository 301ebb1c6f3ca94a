"""Choosing sides: shares that add up, groups that are joined by any chain of keys, counts as near as groups allow."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakit.mixing import mix
from datakit.split.choose import allocate, choose_units, units_in_order
from datakit.split.groups import units_of
from datakit.split.size import parse_size

sizes_and_total = st.lists(st.integers(0, 50), min_size=1, max_size=8).flatmap(
    lambda sizes: st.tuples(st.just(sizes), st.integers(0, sum(sizes)))
)


@given(sizes_and_total)
def test_shares_add_up_and_are_within_one_row_of_the_exact_share(given):
    sizes, total = given
    shares = allocate(total, sizes, range(len(sizes)))
    assert sum(shares) == (total if sum(sizes) else 0)
    for share, size in zip(shares, sizes, strict=True):
        assert 0 <= share <= size
        assert not sum(sizes) or abs(share - total * size / sum(sizes)) < 1


@given(sizes_and_total, st.randoms(use_true_random=False))
def test_the_order_of_values_does_not_change_what_each_gets(given, rng):
    sizes, total = given
    ties = [hash((size, i)) for i, size in enumerate(sizes)]
    order = list(range(len(sizes)))
    rng.shuffle(order)
    shuffled = allocate(total, [sizes[i] for i in order], [ties[i] for i in order])
    assert [shuffled[order.index(i)] for i in range(len(sizes))] == allocate(total, sizes, ties)


def test_the_largest_remainders_get_the_rows_that_are_left():
    assert allocate(10, [33, 33, 34], [0, 1, 2]) == [3, 3, 4]
    assert allocate(2, [1, 1, 1], [5, 9, 7]) == [1, 0, 1]


@given(
    group=st.lists(st.sampled_from([0, 0, 101, 102, 103]), min_size=15, max_size=15),
    pairs=st.lists(st.tuples(st.integers(0, 14), st.sampled_from([1, 2, 3, 4, 102, 200])), max_size=30),
)
def test_rows_that_share_a_key_at_any_distance_are_one_unit(group, pairs):
    rows, keys = np.array([r for r, _ in pairs], np.int64), np.array([k for _, k in pairs], np.uint64)
    units = units_of(np.array(group, np.uint64), rows, keys)
    all_pairs = pairs + [(row, key) for row, key in enumerate(group) if key]
    tied = {row: {row} for row in range(15)}
    for _ in range(15):  # one more step of the way each time
        for row, key in all_pairs:
            for other, other_key in all_pairs:
                if key == other_key:
                    tied[row] |= tied[other]
    assert all({int(r) for r in np.flatnonzero(units == units[row])} == rows for row, rows in tied.items())
    assert sorted(set(units.tolist())) == list(range(len(set(units.tolist()))))


@given(
    rows=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=2, max_size=60),
    share=st.integers(1, 50),
)
def test_no_unit_that_was_left_out_would_bring_the_counts_nearer(rows, share):
    unit = np.unique([u for u, _ in rows], return_inverse=True)[1]
    stratum = np.array([s for _, s in rows], np.int64)
    units = units_in_order(unit, np.arange(1, len(rows) + 1, dtype=np.uint64), stratum)
    sizes = np.bincount(stratum, minlength=3).tolist()
    wanted = allocate(max(1, len(rows) * share // 100), sizes, [0, 1, 2])
    taken = set(choose_units(units, wanted, np.arange(len(units.codes))).tolist())
    assert taken
    parts = dict(units.look(np.arange(len(units.codes))))
    reached = Counter[int]()
    for place in taken:
        reached.update(dict(parts[place]))
    left = [wanted[s] - reached[s] for s in range(3)]
    if len(taken) > 1:
        for place in set(parts) - taken:
            assert sum(abs(left[s]) - abs(left[s] - c) for s, c in parts[place]) <= 0


def test_mixing_loses_no_hash():
    hashes = np.arange(10_000, dtype=np.uint64)
    assert len(np.unique(mix(hashes))) == 10_000
    assert int(mix(np.array([1], np.uint64))[0]) == 0x5692161D100B05E5  # worked out with Python's whole numbers


@pytest.mark.parametrize(
    ("given", "rows", "expected"),
    [
        ("200", 1000, 200), (200, 1000, 200), ("0.1", 999, 100), (0.1, 995, 100), ("10%", 50, 5), ("0.5%", 1000, 5),
        ("0.001", 10, 1), ("0", 10, 0), (0, 10, 0), (0.29, 100, 29), ("1_000", 5000, 1000), ("1e-2", 1000, 10),
    ],
)  # fmt: skip
def test_sizes_are_counts_or_shares_rounded_to_the_nearest_row(given, rows, expected):
    assert parse_size(given, "--val").of(rows) == expected
