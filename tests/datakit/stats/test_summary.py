"""The object that --json prints: percentiles, the histogram, sources and sides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakit.stats.cutoff import Steps
from datakit.stats.lengths import Lengths
from datakit.stats.measure import Measured
from datakit.stats.read import Account
from datakit.stats.summary import histogram, summarize
from registry.records import TextRecord
from tests.conftest import chat, preference
from tests.datakit.stats.conftest import measured


def of(*rows, **options):
    lengths = Lengths("chat")
    lengths.begin("rows.jsonl")
    for row in rows:
        lengths.add([row])
    account = Account()
    account.ledger.rows_in = account.ledger.rows_out = len(rows)
    return Measured(lengths, account, "sft", 0.99, None, "bytes", **options)


def test_percentiles_are_lengths_of_real_rows():
    summary = summarize(of(*[(0, n) for n in range(1, 101)]))
    assert summary["percentiles"] == {"50": 50, "90": 90, "95": 95, "99": 99, "99.9": 100, "100": 100}
    assert summary["mean"] == 50.5


def test_the_suggestion_is_among_the_candidates_and_stands_apart():
    summary = summarize(of(*[(10, 90)] * 20))
    assert summary["suggested_cutoff_len"] == 128
    assert summary["at_suggestion"] in summary["candidates"]
    assert summary["at_suggestion"]["cutoff_len"] == 128


def test_steps_are_those_of_the_given_batch():
    summary = summarize(of(*[(10, 90)] * 20, steps=Steps(batch_size=4, accumulation=2)))
    assert (summary["batch_size"], summary["gradient_accumulation"], summary["packing"]) == (4, 2, False)
    assert summary["at_suggestion"]["steps_per_epoch"] == 3
    packed = summarize(of(*[(10, 22)] * 20, steps=Steps(batch_size=1, packing=True)))
    assert packed["at_suggestion"]["steps_per_epoch"] == packed["at_suggestion"]["blocks"] == 20 // (packed["suggested_cutoff_len"] // 32)  # fmt: skip


def test_sides_of_preferences_are_measured_apart():
    sides = summarize(measured([preference("pp", chosen="ccc", rejected="r")], template="empty", stage="dpo"))["sides"]
    assert {side: found["max"] for side, found in sides.items()} == {"prompt": 2, "chosen": 3, "rejected": 1}


def test_text_has_no_sides_and_is_reported_in_blocks():
    summary = summarize(measured([TextRecord("x" * 99)] * 8, stage="pt"))
    assert (summary["sides"], summary["roles"], summary["unit"], summary["packing"]) == ({}, {}, "text", True)
    assert summary["tokens"] == summary["trained_tokens"] == 800
    assert summary["at_suggestion"]["blocks"] == 800 // summary["suggested_cutoff_len"]


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=300), st.integers(1, 4000))
def test_every_row_is_in_one_bin_of_the_histogram_or_beyond(rows, suggested):
    found = histogram(np.sort(rows), suggested)
    width, counts = found["width"], found["counts"]
    assert sum(counts) + found["beyond"] == len(rows)
    assert counts[0] == sum(n < width for n in rows)
    assert found["beyond"] == sum(n >= width * len(counts) for n in rows)
    assert len(counts) <= 61


def test_one_far_longer_row_does_not_flatten_the_histogram():
    found = histogram(np.array([*range(1, 2001), 1_000_000]), 2048)
    assert found["beyond"] == 1
    assert found["width"] * len(found["counts"]) < 3000


@pytest.mark.parametrize("stage", ["sft", "pt"])
def test_the_suggestion_never_exceeds_the_models_limit(stage):
    records = [chat("q", "a" * 500)] * 9 if stage == "sft" else [TextRecord("a" * 5000)] * 9
    summary = summarize(measured(records, stage=stage, model_limit=100))
    assert summary["suggested_cutoff_len"] <= 100
    assert all(c["cutoff_len"] <= 100 for c in summary["candidates"])
