"""The suggested length and its reason."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakit.stats.suggest import ladder, percent, suggest_block, suggest_cutoff


@pytest.mark.parametrize(
    ("lengths", "target", "limit", "expected"),
    [
        ([9, 10, 11], 0.99, None, 16),  # under 64, multiples of 8
        ([57], 1.0, None, 64),
        ([65], 1.0, None, 128),  # above it, multiples of 64
        ([*range(1, 100), 5000], 0.99, None, 128),  # the hundredth row may be cut
        ([*range(1, 100), 5000], 1.0, None, 5056),
        ([5000], 0.99, 2048, 2048),
        ([5000], 0.99, 1000, 960),  # the last multiple of 64 that the model allows
        ([5000], 0.99, 5, 5),
        ([3], 0.0, None, 8),
    ],
)
def test_the_suggestion_is_the_smallest_multiple_that_keeps_the_target_share(lengths, target, limit, expected):
    assert suggest_cutoff(np.array(lengths), target, limit).cutoff_len == expected


def test_the_reason_names_the_share_that_stays_whole():
    assert suggest_cutoff(np.array([10, 20, 30, 100]), 0.75, None).reason == (
        "32 is the smallest multiple of 8 that keeps at least 75% of the rows whole: 3 of 4 rows (75%) stay whole."
    )


def test_the_reason_says_when_the_models_limit_binds():
    reason = suggest_cutoff(np.array([100, 5000]), 1.0, 2048).reason
    assert "the model's own limit of 2,048 tokens binds" in reason
    assert "100% would take 5,056" in reason


@given(st.lists(st.integers(1, 5000), min_size=1), st.floats(0, 1))
def test_the_suggestion_keeps_the_target_and_the_step_below_does_not(lengths, target):
    cutoff = suggest_cutoff(np.sort(lengths), target, None).cutoff_len
    step = 64 if cutoff > 64 else 8
    kept = [sum(n <= c for n in lengths) / len(lengths) for c in (cutoff, cutoff - step)]
    assert kept[0] >= target - 1e-9
    assert cutoff == 8 or kept[1] < max(target, 1 / len(lengths))


@pytest.mark.parametrize(
    ("tokens", "limit", "expected"),
    [
        (2048 * 50, None, 2048),
        (2048 * 50, 512, 512),
        (4096, None, 512),  # 8 blocks of 512 rather than 2 of 2048
        (100, None, 8),
    ],
)
def test_blocks_for_pre_training_fill_a_batch(tokens, limit, expected):
    found = suggest_block(tokens, limit, opens_with_bos=False)
    assert found.cutoff_len == expected
    assert found.reason.startswith("text is cut into blocks, not truncated")


def test_blocks_for_pre_training_leave_at_most_a_hundredth_over():
    """48 blocks of 2,048 would leave 1,696 of 100,000 tokens over, 1.7%."""
    found = suggest_block(100_000, None, opens_with_bos=False).cutoff_len
    assert found < 2048
    assert 100_000 % found <= 1000


def test_blocks_are_smaller_where_a_batch_is_larger():
    assert suggest_block(4096, None, opens_with_bos=False, batch_size=64).cutoff_len == 64


def test_the_ladder_runs_from_the_middle_row_to_the_longest_and_holds_the_suggestion():
    assert ladder(157, 682, 576, None) == [128, 256, 512, 576, 1024]
    assert ladder(157, 9000, 512, 512) == [128, 256, 512]


def test_one_monstrous_row_does_not_stretch_the_ladder():
    assert ladder(1 << 18, 10**9, 576, None) == [576, 1 << 18, 1 << 19, 1 << 20]


@pytest.mark.parametrize(
    ("share", "text"), [(1, "100%"), (0.9999, ">99.9%"), (0.993, "99.3%"), (0.0001, "<0.1%"), (0, "0%")]
)
def test_shares_are_never_rounded_to_all_or_nothing(share, text):
    assert percent(share) == text
