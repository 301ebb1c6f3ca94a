"""What models cost: by hand, by a user's table, by the shipped one, or not known."""

from __future__ import annotations

import pytest

from datakit.augment.prices import Price, price_of
from registry.errors import Faults, UsageError


def test_a_price_is_of_a_million_tokens():
    assert Price(2.0, 10.0).of(500_000, 100_000) == 2.0
    assert Price(2.0, 10.0).of(0, 0) == 0


def test_a_date_behind_a_models_name_does_not_matter_and_anything_else_does():
    mini = price_of("gpt-4o-mini")
    assert mini is not None
    assert mini.as_of
    assert price_of("GPT-4o-mini-2024-07-18") == price_of("gpt-4o-mini-latest") == mini
    assert price_of("gpt-4o-2024-11-20") == price_of("gpt-4o") != mini
    assert price_of("gpt-4o-audio-preview") is None


def test_nobody_knows_what_an_unknown_model_costs():
    assert price_of("my-own-model") is None


def test_a_price_by_hand_counts_more_than_any_table():
    assert price_of("gpt-4o", given="0,1.5") == Price(0.0, 1.5)


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "a,b", "-1,2", "nan,1", "inf,1", "1;2"])
def test_what_is_no_price_is_refused(text):
    with pytest.raises(UsageError, match=r"--price 0.15,0.60"):
        price_of("m", given=text)


def test_a_users_table_counts_more_than_the_shipped_one_which_still_serves(tmp_path):
    table = tmp_path / "prices.yaml"
    table.write_text("as_of: 2026-01\nmodels:\n  gpt-4o: [1, 2]\n  7b: [0.5, 0.5]\n")
    assert price_of("gpt-4o-2024-11-20", file=table) == Price(1.0, 2.0, "2026-01")
    assert price_of("7B", file=table) == Price(0.5, 0.5, "2026-01")
    assert price_of("o3", file=table) == price_of("o3")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models: [", "cannot be read"),
        ("just text", "no prices are in it"),
        ("models: 3", "no prices are in it"),
        ("models: {a: 3, b: [1], c: [1, -2], d: [1, 2]}", "3 faults"),
    ],
)
def test_faults_of_a_table_are_told(tmp_path, text, told):
    table = tmp_path / "prices.yaml"
    table.write_text(text)
    with pytest.raises((UsageError, Faults), match=told):
        price_of("m", file=table)


def test_a_table_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        price_of("m", file=tmp_path / "none.yaml")
