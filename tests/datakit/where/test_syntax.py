"""What is no condition is refused with its place, and with what was likely meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakit.where import parse_where
from registry.errors import UsageError


def refused(condition):
    with pytest.raises(UsageError) as error:
        parse_where(condition)
    return error.value


@pytest.mark.parametrize(
    ("condition", "what", "mend"),
    [
        ("a = 1 an b = 2", 'the condition should end before "an"',
         "a = 1 an b = 2\n        ^\n  Conditions are joined with and, or."),
        ("lenght(s) > 3", 'there is no function "lenght"', 'lenght(s) > 3\n  ^\n  Did you mean "length"?'),
        ("s = 'abc", "this quote (') is never closed", "s = 'abc\n      ^"),
        ("a && b", '"&" has no meaning here', "a && b\n    ^\n  It is spelled  and  here."),
        ("s = “a”", '"“" has no meaning here', "It is spelled  '  here."),
        ("a = null", "a comparison with null is never true (=)", "a = null\n    ^\n  Write  is null  or  is not null."),
        ("a = 1 = 2", "two comparisons in a row", "a = 1 = 2\n        ^"),
        ("a in 1", '"(" belongs here, not "1": lang in (\'en\', \'de\')', "a in 1\n       ^"),
        ("a between 1", '"and" belongs here, not the end: x between 1 and 5', "a between 1\n             ^"),
        ("(a = 1", '")" belongs here, not the end: a parenthesis is open', "(a = 1\n        ^"),
        ("a like b", "the pattern behind like must be a text in single quotes, not \"b\"", "a like b\n         ^"),
        ("s ~ '('", "not a regular expression: missing ): (", "s ~ '('\n      ^\n  RE2's syntax"),
        ("length(a, b) = 1", "length() takes 1 value, not 2", "length(a, b) = 1\n  ^"),
        ("contains(a) = 1", "contains() takes 2 values, not 1", "contains(a) = 1\n  ^"),
        ("coalesce()", "coalesce() takes 1 to 20 values, not 0", "coalesce()\n  ^"),
        ("in = 3", 'a value belongs here, not "in"', 'A column of that name is written "in".'),
        ("a is 3", '"null" belongs here, not "3"', "a is 3\n       ^"),
        ("a not 3", 'in, like, ilike or between belongs here, not "3"', "a not 3\n        ^"),
        ("  ", "the condition is empty", "For example:"),
        ("中文 == 好好 or (", "a value belongs here, not the end", "中文 == 好好 or (\n                   ^"),
    ],
)  # fmt: skip
def test_a_fault_is_shown_in_its_place(condition, what, mend):
    error = refused(condition)
    assert (error.what, error.where) == (what, "--where")
    assert mend in str(error.mend)


def test_of_a_long_condition_the_part_around_the_fault_is_shown():
    error = refused("a = 1 and " * 50 + "b ==== 2")
    shown, caret = str(error.mend).splitlines()[:2]
    assert shown.startswith("…")
    assert len(shown) < 80
    assert shown[len(caret) - 3 :].startswith("==")  # two columns of indent before the caret's line


@pytest.mark.parametrize(
    "condition", ["(" * 100 + "a" + ")" * 100, "not " * 100 + "a", "-" * 100 + "a = 1", "a" + " + a" * 100 + " = 1", "a or " * 9000 + "a"]
)  # fmt: skip
def test_conditions_that_would_overflow_a_stack_are_refused(condition):
    assert "nested" in refused(condition).what or "characters" in refused(condition).what


def test_many_conditions_in_a_row_are_no_nesting():
    assert parse_where(" or ".join(f"a = {i}" for i in range(1000))).judge([{"a": 999}]) == [True]


_PIECES = [*"ab01.'\"`()[]<>=!~%*/+-, \n中“", " and ", " or ", " not ", " in ", " is ", " null ", " like ", "length("]


@given(st.lists(st.sampled_from(_PIECES)).map("".join))
def test_whatever_is_written_is_a_condition_or_refused(condition):
    try:
        where = parse_where(condition)
    except UsageError:
        return
    where.judge([{"a": 1, "b": "x"}, {}])


def test_a_number_of_too_many_digits_is_refused_in_its_place():
    assert refused("a > " + "9" * 5000).what == "the number has more than 1,000 digits"
