"""The normal form of texts, and the keys that are equal for rows that count as equal."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakit.dedup.normal import folded, key_of, normal_text, raw_text
from registry.errors import RowFault
from tests.datakit.dedup import naive

LETTERS = st.sampled_from([*"aAbB ßİǅﬁＡ１é中\t\n\r\x0b\x1c\x85\xa0\u1680\u2003\u2028\u3000", "  ", "\n\n", "\n \n"])
TEXTS = st.lists(LETTERS, max_size=12).map("".join)


@given(TEXTS)
def test_text_is_folded_and_each_run_of_white_space_is_one_space(text):
    assert normal_text(text) == " ".join(naive.folded(text).split()).encode()


def test_compatibility_forms_case_and_white_space_make_no_difference():
    assert normal_text("  Straße\n\nＮｏ．１\u3000ﬁne ") == b"strasse no.1 fine"
    assert folded("ＡBC") == "abc"


def test_raw_text_is_what_it_is():
    assert raw_text(" A\n") == b" A\n"
    assert raw_text("\ud800") != raw_text("\ud801")


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(VALUES, VALUES)
def test_two_values_have_one_key_where_their_canonical_json_is_one(one, other):
    for normalise, form in ((True, naive.normal), (False, lambda value: value)):
        alike = naive.canonical(form(one)) == naive.canonical(form(other))
        assert (key_of(one, normalise=normalise) == key_of(other, normalise=normalise)) is alike


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": "b:c"}, {"a:b": "c"}),
        ({"a": "1:x"}, {"a": "x", "": ""}),
        (["a", "b"], ["ab", ""]),
        ([["a"], "b"], [["a", "b"]]),
        ({"a": "1"}, {"a": 1}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": None}, {}),
        ({"a": True}, {"a": 1}),
        ({"n": 2**70}, {"n": 2**70 + 1}),
        ({"A": "x"}, {"a": "x"}),
    ],
)
def test_what_is_not_equal_has_another_key(one, other):
    for normalise in (True, False):
        assert key_of(one, normalise=normalise) != key_of(other, normalise=normalise)


def test_the_order_of_keys_makes_no_difference_and_that_of_lists_does():
    assert key_of({"a": 1, "b": {"x": 1, "y": 2}}, normalise=True) == key_of(
        {"b": {"y": 2, "x": 1}, "a": 1}, normalise=True
    )
    assert key_of([1, 2], normalise=True) != key_of([2, 1], normalise=True)


def test_values_that_json_cannot_hold_count_as_what_they_are_written_as():
    day = datetime.date(2024, 1, 2)
    assert key_of({"d": day}, normalise=False) == key_of({"d": "2024-01-02"}, normalise=False)
    assert key_of({"d": Decimal("1.50")}, normalise=False) == key_of({"d": "1.50"}, normalise=False)
    assert key_of({"n": float("nan")}, normalise=False) == key_of({"n": None}, normalise=False)
    assert key_of({"m": {1: "a", "x": "b"}}, normalise=False) == key_of({"m": {"1": "a", "x": "b"}}, normalise=False)


def test_a_row_nested_too_deep_is_a_fault_of_the_row():
    value: list = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(RowFault, match="nested too deep"):
        key_of(value, normalise=True)
