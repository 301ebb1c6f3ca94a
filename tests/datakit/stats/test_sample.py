"""A sample is drawn with equal chances, and its bands hold the truth as often as they say."""

import gzip
import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakit.stats.sample import Sample, draw_rows, rank_band, reservoir, share_band, total_band
from datakit.stats.summary import summarize
from registry.errors import UsageError
from registry.rows import BadRow
from tests.datakit.stats.conftest import measure


@given(st.integers(0, 60), st.integers(1, 70), st.integers(0, 2**32))
def test_a_reservoir_holds_so_many_items_each_once_and_in_order(num_items, size, seed):
    kept, total = reservoir(range(num_items), size, random.Random(seed))
    assert total == num_items
    assert len(kept) == min(size, num_items)
    assert kept == sorted(set(kept))


def test_every_item_has_the_same_chance():
    """Each of 20 items is drawn 5 in 20 times of 4,000: 1,000, give or take 5 times its standard deviation of 27."""
    drawn = Counter(item for seed in range(4000) for item in reservoir(range(20), 5, random.Random(seed))[0])
    assert max(abs(drawn[item] - 1000) for item in range(20)) < 5 * math.sqrt(4000 * 0.25 * 0.75)


def test_the_same_seed_draws_the_same_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"n": {n}}}\n' for n in range(1000)))
    one, two, other = (draw_rows([[str(path)]], 10, seed)[0] for seed in (3, 3, 4))
    assert one == two != other


def test_drawn_rows_keep_their_numbers_and_broken_ones_their_reasons(tmp_path):
    plain, packed = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"
    plain.write_text('{"n": 1}\n\n{"n": 3}\n')
    packed.write_bytes(gzip.compress(b'{"n": 4}\nbroken\n'))
    drawn, num_of = draw_rows([[str(plain)], [str(packed)]], 100, 0)
    assert [(source, row.number) for source, row in drawn] == [(0, 1), (0, 3), (1, 1), (1, 2)]
    assert isinstance(drawn[3][1], BadRow)
    assert num_of == {str(plain): 2, str(packed): 2}


def test_files_that_are_no_json_lines_are_drawn_from_as_well(tmp_path):
    (tmp_path / "a.csv").write_text("q,a\n" + "x,y\n" * 50)
    (tmp_path / "b.json").write_text("[" + ",".join(['{"q": 1}'] * 50) + "]")
    drawn, num_of = draw_rows([[str(tmp_path / "a.csv"), str(tmp_path / "b.json")]], 20, 0)
    assert len(drawn) == 20
    assert list(num_of.values()) == [50, 50]


def test_an_empty_source_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(UsageError, match="there is no row in it"):
        draw_rows([[str(tmp_path / "a.jsonl")]], 5, 0)


@pytest.mark.parametrize(
    ("num_rows", "share", "expected"),
    [
        (100, 0.5, (40, 61)),  # tables of the binomial: 2.8% lie below 40 of 100, 1.8% below 39
        (10, 0.5, (2, 9)),  # Conover, Practical Nonparametric Statistics: ranks 2 and 9 of 10 hold the median at 97.9%
        (10, 0.99, (9, 11)),  # no drawn row is sure to lie above
        (5, 0.0, (0, 1)),
        (5, 1.0, (5, 6)),
    ],
)
def test_the_ranks_around_a_quantile_are_those_of_the_binomial(num_rows, share, expected):
    assert rank_band(num_rows, share) == expected


@given(st.integers(1, 400), st.floats(0.001, 0.999))
def test_the_ranks_around_a_quantile_hold_it_with_the_promised_chance(num_rows, share):
    """P(low <= B < high) >= 95% for B rows below the quantile, summed term by term."""
    low, high = rank_band(num_rows, share)

    def chance(k):
        log = math.lgamma(num_rows + 1) - math.lgamma(k + 1) - math.lgamma(num_rows - k + 1)
        return math.exp(log + k * math.log(share) + (num_rows - k) * math.log(1 - share))

    assert sum(chance(k) for k in range(low, min(high, num_rows + 1))) >= 0.95 - 1e-9
    narrower = sum(chance(k) for k in range(low + 1, min(high, num_rows + 1)))
    assert low == 0 or narrower < 0.975 + 1e-9


def test_bands_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(5)
    everyone = np.sort(rng.lognormal(5, 0.8, 5000).astype(np.int64))
    truth, longer, middle = everyone.sum(), int((everyone > 600).sum()), everyone[2499]
    held = Counter()
    for seed in range(400):
        drawn = np.sort(rng.choice(everyone, 300, replace=False))
        low, high = total_band(drawn, Sample(300, 5000, seed))
        held["total"] += low <= truth <= high
        low, high = share_band(int((drawn > 600).sum()), 300)
        held["share"] += low * 5000 <= longer <= high * 5000
        first, last = rank_band(300, 0.5)
        held["median"] += drawn[first - 1] <= middle <= drawn[last - 1]
    assert all(0.91 <= count / 400 <= 1 for count in held.values())


def test_a_total_of_all_rows_has_no_width():
    values = np.array([1, 2, 3])
    assert total_band(values, Sample(3, 3, 0)) == (6, 6)


def rows_of(tmp_path, number):
    path = tmp_path / "rows.jsonl"
    lines = [f'{{"instruction": "q", "output": "{"a" * (n % 90)}b"}}\n' for n in range(number)]
    path.write_text("".join(lines))
    return path


def test_a_sample_says_of_every_figure_how_far_it_may_be_off(tmp_path, model):
    path = rows_of(tmp_path, 2000)
    exact, about = (summarize(measure([path], model, sample=size)) for size in (None, 500))
    found = about["estimate"]
    assert exact["estimate"] is None
    assert (found["sampled_rows"], found["of_rows"], found["confidence"]) == (500, 2000, 0.95)
    for key in ("rows", "tokens", "trained_tokens"):
        assert found[key][0] <= exact[key] <= found[key][1]
        assert found[key][0] <= about[key] <= found[key][1]
    for name, (low, high) in found["percentiles"].items():
        assert low <= exact["percentiles"][name]
        assert high is None or exact["percentiles"][name] <= high
    assert found["suggested_cutoff_len"][0] <= exact["suggested_cutoff_len"]
    cut = {str(c["cutoff_len"]): c["rows_truncated"] for c in exact["candidates"]}
    assert all(low <= cut[name] <= high for name, (low, high) in found["rows_truncated"].items() if name in cut)
    for c in about["candidates"]:
        low, high = found["rows_truncated"][str(c["cutoff_len"])]
        assert low <= c["rows_truncated"] <= high
    assert about["candidates"][0]["tokens_lost"] > exact["candidates"][0]["tokens_lost"] / 2
    assert about["at_suggestion"]["steps_per_epoch"] == 250
    assert "of 500 drawn rows" in about["reason"]


def test_a_sample_of_all_rows_is_no_estimate(tmp_path, model):
    path = rows_of(tmp_path, 100)
    exact, drawn = (summarize(measure([path], model, sample=size)) for size in (None, 100))
    exact.pop("seconds"), drawn.pop("seconds")
    assert exact == drawn


def test_rows_that_were_not_drawn_are_in_the_books(tmp_path, model):
    ledger = measure([rows_of(tmp_path, 100)], model, sample=30).account.ledger
    assert (ledger.rows_in, ledger.rows_out, dict(ledger.filtered)) == (100, 30, {"--sample": 70})
