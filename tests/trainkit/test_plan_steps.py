"""Padding and percentiles of given lengths, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainkit.plan_steps import _percentiles, padded_sizes


def lengths(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def test_in_file_order_each_batch_is_padded_to_its_longest() -> None:
    """[10, 20] → 2 × 24, [30, 1] → 2 × 32, [9] → 16: rows are padded to a multiple of 8."""
    assert padded_sizes(lengths(10, 20, 30, 1, 9), 2, 1, seed=0, shuffle=False) == {"plain": 48 + 64 + 16}


def test_batches_of_like_length_pad_less() -> None:
    """Of four 8s and four 80s, batches of two of a kind need no padding at all."""
    found = padded_sizes(lengths(8, 80, 8, 80, 8, 80, 8, 80), 2, 4, seed=0)
    assert found["length_grouped"] == found["token_balanced"] == 4 * 8 + 4 * 80
    assert found["plain"] > found["length_grouped"]


def test_percentiles_are_lengths_that_there_are() -> None:
    assert _percentiles(np.arange(1, 201)) == {"50": 100, "90": 180, "99": 198, "100": 200}
    assert _percentiles(lengths()) == {}


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_padding_never_takes_tokens_away(sizes: list[int], batch: int, accumulation: int, shuffle: bool) -> None:
    found = padded_sizes(lengths(*sizes), batch, accumulation, seed=1, shuffle=shuffle)
    assert all(size >= sum(sizes) for size in found.values())
    if shuffle:
        assert found["token_balanced"] == pytest.approx(min(found["token_balanced"], found["plain"]))
