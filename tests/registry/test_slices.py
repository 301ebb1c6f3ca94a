"""Slices of splits mean the rows that the datasets library takes for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import UsageError
from registry.slices import RowSlice, parse_split, sliced_rows


def rows_of(text: str, num_rows: int) -> list[int]:
    _, slices = parse_split(text, "here")
    return [row for one in sliced_rows(slices, num_rows) for row in one]


@pytest.mark.parametrize(
    ("text", "splits", "rows"),
    [
        ("train", "train", list(range(20))),
        ("train+test", "train+test", list(range(20))),
        ("train[:10%]", "train", [0, 1]),
        ("train[95%:]", "train", [19]),
        ("train[3:5]", "train", [3, 4]),
        ("train[-2:]", "train", [18, 19]),
        ("train[:2]+train[-1:]", "train", [0, 1, 19]),
        ("train[:1] + train[5:6]", "train", [0, 5]),
        ("train[18:1_000]", "train", [18, 19]),
        ("train[5:3]", "train", []),
        ("train[:]", "train", list(range(20))),
    ],
)
def test_a_slice_names_its_split_and_its_rows(text: str, splits: str, rows: list[int]) -> None:
    assert parse_split(text, "here")[0] == splits
    assert rows_of(text, 20) == rows


boundary = st.none() | st.integers(-130, 130)


@given(boundary, boundary, st.booleans(), st.integers(1, 120))
def test_the_rows_are_those_that_datasets_reads(start: int | None, stop: int | None, percent: bool, size: int) -> None:
    reader = pytest.importorskip("datasets.arrow_reader")
    if percent and any(abs(at) > 100 for at in (start, stop) if at is not None):
        return
    spec = f"train{RowSlice(start, stop, percent)}"
    (theirs,) = reader.ReadInstruction.from_spec(spec).to_absolute({"train": size})
    assert rows_of(spec, size) == list(range(theirs.from_, theirs.to))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("train[10%]", 'here: "train[10%]" is no part of a split\n  For example  train[:10%]  or  train[100:200]'),
        ("train[:101%]", 'here: "train[:101%]": hundredths go from -100% to 100%'),
        ("train[:1]+test[:1]", 'here: "train[:1]+test[:1]" adds up slices of several splits (train, test)'),
        ("train[:1]+test", 'here: "train[:1]+test" adds up slices of several splits (train, test)'),
        ("train[:9%](pct1_dropremainder)", "(pct1_dropremainder) is not done here"),
        ("[:3]", 'here: "[:3]" is no part of a split'),
    ],
)
def test_what_is_no_slice_is_refused(text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_split(text, "here")
    assert told in str(caught.value)
