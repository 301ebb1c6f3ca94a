"""One field of a row: text or a fault that says what stands there instead."""

import pytest

from registry.errors import RowFault
from registry.formats.fields import kind_of, optional_text, required


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "null"), (True, "a truth value (True)"), (3, "a number (3)"), (1.5, "a number (1.5)"),
        ([1], "a list ([1])"), ({"a": 1}, "an object ({'a': 1})"), ("x" * 50, f"text ({'x' * 40})"),
    ],
)  # fmt: skip
def test_a_value_is_told_by_its_kind_and_its_start(value, words):
    assert kind_of(value) == words


def test_absent_and_null_read_as_empty_text():
    assert [optional_text(row, "a") for row in ({}, {"a": None}, {"a": "x"})] == ["", "", "x"]
    assert optional_text({"a": "x"}, None) == ""
    with pytest.raises(RowFault, match='field "a": text belongs here, not a number'):
        optional_text({"a": 1}, "a")


def test_a_required_field_must_be_there_and_of_its_kind():
    assert required({"a": [1]}, "a", list, "a list") == [1]
    with pytest.raises(RowFault, match='field "a": the field is missing'):
        required({}, "a", list, "a list")
    with pytest.raises(RowFault, match='field "a": a list belongs here, not null'):
        required({"a": None}, "a", list, "a list")
