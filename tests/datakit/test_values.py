"""The value policy: what JSON cannot hold becomes something it can, and the change is counted."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakit.values import BINARY, DECIMAL, DURATION, NON_FINITE, SURROGATE, TIME, encode_row
from registry.arrow_rows import Seconds, TimeText
from registry.errors import RowFault
from registry.rows import decode_json

JSON_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | JSON_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(JSON_TEXT, inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(JSON_TEXT, JSON_VALUES, max_size=5))
def test_what_json_holds_comes_back_as_it_was_and_nothing_is_counted(row):
    changes: Counter[str] = Counter()
    assert decode_json(encode_row(row, changes)) == row
    assert changes.total() == 0


@pytest.mark.parametrize(
    ("value", "spelled", "counted"),
    [
        (Decimal("1.10"), "1.10", DECIMAL),
        (Decimal("NaN"), None, NON_FINITE),
        (float("inf"), None, NON_FINITE),
        (datetime.datetime(2025, 1, 8, 13, 19, 9, 5), "2025-01-08T13:19:09.000005", TIME),
        (datetime.date(2025, 1, 8), "2025-01-08", TIME),
        (datetime.time(13, 19, tzinfo=datetime.UTC), "13:19:00+00:00", TIME),
        (datetime.timedelta(minutes=1, microseconds=5), 60.000005, DURATION),
        (b"\x00\xff", "AP8=", BINARY),
        ("a\ud800b", "a\ufffdb", SURROGATE),
    ],
)
def test_each_kind_has_its_one_spelling_at_any_depth(value, spelled, counted):
    changes: Counter[str] = Counter()
    assert json.loads(encode_row({"top": value, "deep": [{"er": value}]}, changes)) == {
        "top": spelled,
        "deep": [{"er": spelled}],
    }
    assert changes[counted] == 2


@pytest.mark.parametrize(
    ("value", "spelled", "counted"),
    [
        (TimeText("2025-01-08T13:19:09.000000005"), "2025-01-08T13:19:09.000000005", TIME),
        (Seconds(1e18), 1e18, DURATION),
        (Decimal("1E+3"), "1000", DECIMAL),
        (Decimal("0E-3"), "0.000", DECIMAL),
    ],
)
def test_times_beyond_python_and_decimals_are_spelled_out(value, spelled, counted):
    changes: Counter[str] = Counter()
    assert json.loads(encode_row({"a": value}, changes)) == {"a": spelled}
    assert changes[counted] == 1


def test_a_list_of_pairs_that_json_wrote_stays_a_list():
    assert json.loads(encode_row({"history": [["q", "a"]]}, Counter())) == {"history": [["q", "a"]]}


def test_names_of_columns_may_hold_halves_of_characters():
    assert json.loads(encode_row({"\ud800": 1}, Counter())) == {"\ufffd": 1}


def test_identifiers_are_text():
    assert json.loads(encode_row({"id": UUID(int=1)}, Counter())) == {"id": "00000000-0000-0000-0000-000000000001"}


def test_a_row_nested_too_deep_is_refused_with_a_reason():
    deep: list = []
    for _ in range(3000):
        deep = [deep]
    with pytest.raises(RowFault, match="nested too deep"):
        encode_row({"a": deep}, Counter())


def test_a_value_of_no_known_kind_is_refused_with_a_reason():
    with pytest.raises(RowFault, match="a value of kind object cannot be written"):
        encode_row({"a": object()}, Counter())
