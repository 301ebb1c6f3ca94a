"""The bands of a threshold, and how surely they find a pair."""

from __future__ import annotations

import numpy as np
import pytest

from datakit.dedup.bands import FOUND, Bands, band_keys, bands_for
from datakit.dedup.tokens import Grams


@pytest.mark.parametrize(
    ("threshold", "bands"),
    [(0.5, (42, 3)), (0.7, (32, 4)), (0.8, (21, 6)), (0.9, (12, 10)), (1.0, (1, 128)), (0.02, (128, 1))],
)
def test_the_largest_bands_are_taken_that_find_a_pair_at_the_threshold(threshold, bands):
    found = bands_for(threshold)
    assert (found.count, found.rows) == bands
    larger = Bands(128, 128 // (found.rows + 1), found.rows + 1)
    assert threshold == 1 or larger.found(threshold) < FOUND


def test_the_probability_is_that_of_the_formula():
    assert Bands(128, 21, 6).found(0.8) == pytest.approx(1 - (1 - 0.8**6) ** 21)
    assert Bands(128, 21, 6).found(1) == 1


def test_sets_at_the_threshold_share_a_band_as_often_as_the_formula_says():
    """1,500 pairs of sets of 90 with 80 in common (0.8): 0.9983 of them, by the formula; three deviations are 0.0032."""
    rng = np.random.default_rng(3)
    pool = rng.integers(0, 1 << 64, (1500, 100), np.uint64)
    starts = np.arange(0, 1500 * 90 + 1, 90)
    bands = bands_for(0.8)
    one = band_keys(Grams(np.ascontiguousarray(pool[:, :90]).ravel(), starts), bands)
    other = band_keys(Grams(np.ascontiguousarray(pool[:, 10:]).ravel(), starts), bands)
    assert (one == other).any(axis=0).mean() >= bands.found(0.8) - 0.0032


def test_sets_that_have_nothing_in_common_share_no_band():
    hashes = np.random.default_rng(4).integers(0, 1 << 64, 4000, np.uint64)
    keys = band_keys(Grams(hashes, np.arange(0, 4001, 40)), bands_for(0.8))
    assert all(len(set(band.tolist())) == 100 for band in keys)


def test_order_and_repeats_of_ngrams_make_no_difference():
    grams = Grams(np.array([1, 2, 3, 3, 2, 1, 1], np.uint64), np.array([0, 3, 7]))
    keys = band_keys(grams, bands_for(0.9))
    assert (keys[:, 0] == keys[:, 1]).all()
