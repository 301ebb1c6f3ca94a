"""Conditions on rows: SQL's answers, in three values, whatever the container; faults decide only where they matter."""

from __future__ import annotations

import datetime
import time
from decimal import Decimal
from uuid import UUID

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datakit.where import parse_where
from datakit.where.values import Fault
from registry.arrow_rows import Seconds, TimeText

ROW = {
    "n": 3, "f": 2.5, "s": "Hello", "t": True, "nothing": None, "list": [1, "x"], "object": {"a.b": [{"c": "deep"}]},
    "中文": "好", "two words": 1, "in": 5, "digits": "7",
}  # fmt: skip


def judge(condition, row=ROW):
    (found,) = parse_where(condition).judge([row])
    return found


@pytest.mark.parametrize(
    "condition",
    [
        "n = 3", "n == 3", "n <> 4", "n != 4", "n >= 3 and n <= 3", "n between 1 and 3", "not n > 3", "n not between 4 and 9",
        "n in (1, 2 + 1)", "s not in ('a', 'b')", "s like 'H%l_'", "s like '%l%l%'", "s ilike 'hELLO'", "s not like 'h%'",
        "s ~ '^H.*o$'", "s !~ '^x'", "s ~ '(?i)hello'", "nothing is null", "n is not null", "absent is null", "t", "not not t",
        "n + 1 = 4", "n - 1 - 1 = 1", "n * 2 + 1 = 7", "1 + n * 2 = 7", "(1 + n) * 2 = 8", "n / 2 = 1.5", "7 % -4 = 3", "-7 % 4 = -3",
        "-n = -3", "- -n = 3", "n = 3.0", "f = 25e-1", "length(s) = 5", "length(list) = 2", "length(object) = 1", "words('a  b c') = 3",
        "lower(s) = 'hello'", "upper(s) = 'HELLO'", "trim(' a ') = 'a'", "contains(s, 'ell')", "contains(list, 'x')",
        "not contains(list, 'y')", "starts_with(s, 'He')", "ends_with(s, 'lo')", "abs(-n) = 3", "coalesce(nothing, absent, 4) = 4",
        "is_finite(f)", "number(digits) > 6", "number(' -1.5e1 ') = -15", "number('') is null", "text(n) = '3'", "text(t) = 'true'",
        "list.1 = 'x'", "list[-1] = 'x'", 'object."a.b"[0].c = \'deep\'', "list.5 is null", "中文 = '好'", '"two words" = 1',
        "`two words` = 1", '"in" = 5', "s = 'Hello' or s > 1", "n > 5 or t", "'it''s' = 'it''s'", "N IS NULL", "(n = 3) = t",
    ],
)  # fmt: skip
def test_true_conditions(condition):
    assert judge(condition) is True


@pytest.mark.parametrize(
    "condition",
    [
        "nothing = 1", "nothing > absent", "not nothing", "nothing and t", "nothing or not t", "n in (1, absent)",
        "n not in (1, absent)", "nothing like 'a'", "nothing ~ 'a'", "length(nothing) > 1", "n / 0 = 1", "n % 0 = 1", "n + nothing = 3",
        "nothing between 1 and 2",
    ],
)  # fmt: skip
def test_what_depends_on_a_missing_value_is_null(condition):
    assert judge(condition) is None


@pytest.mark.parametrize(
    ("condition", "truth"),
    [
        ("nothing and not t", False),
        ("nothing or t", True),
        ("n in (3, absent)", True),
        ("1 between 2 and absent", False),
    ],
)
def test_a_missing_value_that_changes_nothing_is_passed_over(condition, truth):
    assert judge(condition) is truth


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("s > 1", "text cannot be compared with a number (Hello and 1)"),
        ("digits > 1", "text cannot be compared with a number (7 and 1; number(…) makes one of the text)"),
        ("t = 1", "a truth value cannot be compared with a number (true and 1)"),
        ("n in (1, 'a')", "a number cannot be compared with text (3 and a)"),
        ("list < list", "two lists have no order"),
        ("s + 1 = 2", "+ takes numbers, not text (Hello)"),
        ("-s = 2", "- takes numbers, not text (Hello)"),
        ("n like 'a'", "like takes text, not a number (3)"),
        ("n ~ 'a'", "~ takes text, not a number (3)"),
        ("length(n) = 1", "length() takes text, a list or an object, not a number (3)"),
        ("lower(n) = 'a'", "lower() takes text, not a number (3)"),
        ("number(s) = 1", "this is no number: text (Hello)"),
        ("n", "a condition is true or false, not a number (3)"),
        ("not n", "a condition is true or false, not a number (3)"),
        ("n and t", "a condition is true or false, not a number (3)"),
        ("(lower(n) = 'a') is null", "lower() takes text, not a number (3)"),
        ("contains(n, 1)", "contains() looks for text in text or for a value in a list, not for a number (1) in a number (3)"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_a_fault_with_its_reason(condition, reason):
    assert judge(condition) == Fault(reason)


@pytest.mark.parametrize(
    ("condition", "truth"), [("s > 1 and n = 4", False), ("n = 3 or s > 1", True), ("s > 1 or n = 3", True)]
)
def test_a_fault_decides_nothing_where_the_rest_does(condition, truth):
    assert judge(condition) is truth


@pytest.mark.parametrize(
    ("value", "condition"),
    [
        (Decimal("1.10"), "x = 1.1 * 1 or x > 1.09 and x < 1.11"),
        (Decimal("NaN"), "not is_finite(x)"),
        (datetime.datetime(2025, 1, 8, 13, tzinfo=datetime.UTC), "x = '2025-01-08T13:00:00+00:00' and x >= '2025-01'"),
        (datetime.date(2025, 1, 8), "x < '2025-02'"),
        (TimeText("2025-01-08T13:00:00.000000001"), "x > '2025-01-08T13:00:00'"),
        (datetime.timedelta(minutes=1), "x = 60"),
        (Seconds(1.5), "x = 1.5"),
        (b"\x00\xff", "x = 'AP8='"),
        (UUID(int=1), "ends_with(x, '0001')"),
        (2**64, "x > 9223372036854775807"),
        (float("nan"), "x = x and x > 1e300 and not is_finite(x)"),
        (float("inf"), "x > 1e300 and not is_finite(x)"),
    ],
    ids=str,
)
def test_values_are_what_they_are_spelled_as(value, condition):
    assert judge(condition, {"x": value}) is True


def test_a_column_with_dots_in_its_name_goes_before_what_the_dots_reach():
    assert judge("a.b = 1", {"a.b": 1, "a": {"b": 2}}) is True
    assert judge("a.b = 2", {"a": {"b": 2}}) is True


def test_the_columns_are_told():
    where = parse_where("a.b[0] = 1 and \"two words\" like 'x' and a.b[0] < 2")
    assert where.columns == ("a.b.0", "two words")
    assert where.quoted == {"two words"}


def test_texts_that_make_backtracking_engines_hang_are_nothing_here():
    evil = "a" * 20_000 + "!"
    started = time.process_time()
    assert judge("s ~ '^(a+)+$' or s like '%a%a%a%a%a%a%a%b'", {"s": evil}) is False
    assert time.process_time() - started < 20  # the engines that hang need years


def test_every_function_is_in_the_docs():
    from datakit.where.functions import FUNCTIONS
    from tests.conftest import REPOSITORY

    told = (REPOSITORY / "docs" / "formats.md").read_text("utf-8")
    assert [name for name in FUNCTIONS if f"`{name}" not in told] == []


def test_half_a_character_stops_no_expression():
    assert judge("s ~ 'a'", {"s": "\ud800a"}) is True


_numbers = st.sampled_from(["a", "b", "0", "1", "2", "-1", "0.5"])
_texts = st.sampled_from(["s", "lower(s)", "upper(s)", "'a'", "''", "'Ab'"])
_sums = st.recursive(
    _numbers,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})")
        | inner.map(lambda x: f"abs({x})")
        | st.tuples(inner, inner).map(lambda p: f"coalesce({p[0]}, {p[1]})")
        | st.tuples(inner, st.sampled_from(["2", "-3"])).map(lambda p: f"({p[0]} % {p[1]})")
    ),
    max_leaves=4,
)
_signs = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
_atoms = st.one_of(
    st.just("t"),
    st.tuples(_sums, _signs, _sums).map(" ".join),
    st.tuples(_texts, _signs, _texts).map(" ".join),
    st.tuples(_sums, _sums, _sums).map(lambda p: f"{p[0]} between {p[1]} and {p[2]}"),
    st.tuples(st.sampled_from(["a", "b", "s", "t"]), st.sampled_from(["is null", "is not null"])).map(" ".join),
    st.tuples(st.just("a"), st.sampled_from(["in", "not in"]), st.sampled_from(["(1)", "(-1, 2)"])).map(" ".join),
    st.tuples(st.just("s"), st.sampled_from(["in", "not in"]), st.sampled_from(["('a')", "('', 'Ab')"])).map(" ".join),
    st.tuples(
        _texts, st.sampled_from(["like", "not like", "ilike"]), st.sampled_from(["'%'", "'a%'", "'_'", "'%b%'", "'A_'", "'%a'"])
    ).map(" ".join),
    st.tuples(st.just("s ~"), st.sampled_from(["'^a'", "'b$'", "'[aA]b?'", "'.'"])).map(" ".join),
    st.tuples(st.sampled_from(["starts_with", "ends_with"]), st.sampled_from(["'a'", "'b'"])).map(lambda p: f"{p[0]}(s, {p[1]})"),
    st.tuples(st.just("length(s)"), _signs, _numbers).map(" ".join),
)  # fmt: skip
_conditions = st.recursive(
    _atoms,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda p: f"({p[0]}) {p[1]} ({p[2]})")
        | inner.map(lambda x: f"not ({x})")
    ),
    max_leaves=4,
)
_rows = st.lists(
    st.fixed_dictionaries({
        "a": st.none() | st.integers(-3, 3),
        "b": st.none() | st.sampled_from([0.5, -1.0, 2.0, float("nan"), float("inf")]),
        "s": st.none() | st.sampled_from(["", "a", "Ab", "ab", "b", "aXb"]),
        "t": st.none() | st.booleans(),
    }),
    min_size=1, max_size=4,
)  # fmt: skip


@settings(max_examples=150)
@given(_conditions, _rows)
def test_answers_are_those_of_polars(condition, rows):
    """The oracle reads the same text as SQL over typed columns (polars 2.1), row by row, as it does not broadcast all."""
    schema = {"a": pl.Int64, "b": pl.Float64, "s": pl.String, "t": pl.Boolean}
    expected = [pl.DataFrame([row], schema=schema).select(x=pl.sql_expr(condition))["x"].item() for row in rows]
    assert parse_where(condition).judge(rows) == expected
