"""The fast path against the row path: the same rows, rejects and counts, whatever the columns hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datakit.convert
from datakit.columns import plan_columns
from datakit.columns.safe import why_unsafe
from datakit.convert import convert_rows
from registry.formats import LAYOUTS

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.sampled_from(
    ["", '"', "\\", '","value":"', "{{name}}", "\u0000\u001f\u007f", "a\nb\r\n\tc", "\u2028", "😀", '}\n{"0":']
)
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): TEXT,
    pa.large_string(): TEXT,
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.int8(): st.integers(-128, 127),
    pa.bool_(): st.booleans(),
    pa.null(): st.none(),
}


def columns_of() -> st.SearchStrategy[tuple[pa.DataType, st.SearchStrategy[Any]]]:
    """A safe type with its values, nested up to three deep."""
    flat = st.sampled_from([*VALUES.items()])

    def deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        in_list = inner.map(lambda t: (pa.list_(t[0]), st.lists(t[1] | st.none(), max_size=3)))
        in_object = inner.map(
            lambda t: (
                pa.struct([("a", t[0]), ("b c", pa.string())]),
                st.fixed_dictionaries({"a": t[1] | st.none(), "b c": TEXT | st.none()}),
            )
        )
        return in_list | in_object

    fractions = st.just((pa.float64(), st.floats()))
    return fractions | st.recursive(flat, deeper, max_leaves=3)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """A table of safe columns with nulls anywhere."""
    rows = draw(st.integers(1, 6))
    columns = draw(st.lists(columns_of(), min_size=1, max_size=4))
    arrays = [pa.array(draw(st.lists(v | st.none(), min_size=rows, max_size=rows)), t) for t, v in columns]
    return pa.table(arrays, names=[f"c{i}" for i in range(len(arrays))])


def convert_both_ways(
    table: pa.Table, folder: Path, **options: Any
) -> tuple[dict[str, Any], dict[str, Any], list[Any], list[Any]]:
    """The manifests and the rows (with the rejects) of the fast path and of the row path."""
    source = folder / "in.parquet"
    pq.write_table(table, source, row_group_size=4)
    found: list[Any] = []
    for name, plan in (("fast", plan_columns), ("rows", lambda *_, **__: "the row path is asked for")):
        out = folder / f"{name}.jsonl"
        for old in folder.glob(f"{name}.jsonl*"):
            old.unlink()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(datakit.convert, "plan_columns", plan)
            convert_rows([str(source)], out, **options)
        rejects = folder / f"{name}.jsonl.rejects.jsonl"
        rows = [json.loads(line) for line in out.read_bytes().splitlines()]
        aside = [orjson.loads(line) for line in rejects.read_bytes().splitlines()] if rejects.exists() else []
        found.append((json.loads((folder / f"{name}.jsonl.manifest.json").read_bytes()), [rows, aside]))
    (fast, fast_rows), (slow, slow_rows) = found
    return fast, slow, fast_rows, slow_rows


def check_same(fast: dict[str, Any], slow: dict[str, Any], fast_rows: list[Any], slow_rows: list[Any]) -> None:
    assert fast_rows == slow_rows
    assert [list(row) for row in fast_rows[0]] == [list(row) for row in slow_rows[0]]  # the order of keys as well
    assert fast["details"].pop("path") == "columns"
    assert slow["details"].pop("path").startswith("rows")
    assert fast["details"] == slow["details"]
    for key in ("rows_in", "rows_out", "rejected", "changed_values", "inputs"):
        assert fast[key] == slow[key], key


@settings(max_examples=60, deadline=None)
@given(table=tables())
def test_keeping_columns_gives_the_rows_of_the_row_path(
    tmp_path_factory: pytest.TempPathFactory, table: pa.Table
) -> None:
    check_same(*convert_both_ways(table, tmp_path_factory.mktemp("keep")))


ALPACA = st.fixed_dictionaries(
    {
        "instruction": TEXT | st.none(),
        "input": TEXT | st.none(),
        "output": TEXT | st.none(),
        "system": st.none() | st.just("") | TEXT,
        "history": st.none() | st.just([]) | st.just([["q", "a"]]),
        "tools": st.none() | st.just("") | st.just('[{"name": "f"}]'),
        "kto_tag": st.booleans() | st.none(),
        "chosen": TEXT | st.none(),
        "rejected": TEXT | st.none(),
        "id": st.integers(0, 9),
    }
)
KINDS = {
    "chat": ("kto_tag", "chosen", "rejected"),
    "feedback": ("chosen", "rejected"),
    "preference": ("output", "kto_tag"),
}
TARGET = {"feedback": "kto", "preference": "preference"}
SCHEMA = {
    **dict.fromkeys(("instruction", "input", "output", "system", "tools", "chosen", "rejected"), pa.string()),
    "history": pa.list_(pa.list_(pa.string())),
    "kto_tag": pa.bool_(),
    "id": pa.int64(),
}


@pytest.mark.parametrize("to", ["alpaca", "sharegpt", "openai"])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(rows=st.lists(ALPACA, min_size=1, max_size=8), leave=st.sets(st.sampled_from(["system", "history", "tools"])))
def test_training_formats_are_those_of_the_row_path(
    tmp_path_factory: pytest.TempPathFactory, to: str, kind: str, rows: list[dict[str, Any]], leave: set[str]
) -> None:
    # a first row that tells the format, so that only what is rejected differs from row to row
    first = {"instruction": "q", "input": "", "output": "a", "kto_tag": True, "chosen": "a", "rejected": "b", "id": 1}
    names = [name for name in SCHEMA if name not in (*KINDS[kind], *leave)]
    table = pa.table({name: pa.array([row.get(name) for row in (first, *rows)], SCHEMA[name]) for name in names})
    target = {"to_format": to} if kind == "chat" else {"to_format": TARGET[kind], "shape": to}
    check_same(*convert_both_ways(table, tmp_path_factory.mktemp("to"), **target))


def test_renaming_and_a_limit_are_those_of_the_row_path(tmp_path: Path) -> None:
    table = pa.table({"a": ["x", "y", "z"] * 3, "b": [*range(9)]})
    for options in ({"mapping": {"text": "a"}}, {"limit": 5}, {"mapping": {"text": "a", "copy": "a"}, "limit": 1}):
        check_same(*convert_both_ways(table, tmp_path, **options))


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (pa.float32(), 'column "c" is float'),
        (pa.list_(pa.float64()), 'column "c" is list<item: double>'),
        (pa.timestamp("us", "UTC"), 'column "c" is timestamp[us, tz=UTC]'),
        (pa.decimal128(9, 2), 'column "c" is decimal128(9, 2)'),
        (pa.binary(), 'column "c" is binary'),
        (pa.map_(pa.string(), pa.int64()), 'column "c" is map<string, int64>'),
        (pa.dictionary(pa.int32(), pa.string()), 'column "c" is dictionary<values=string, indices=int32, ordered=0>'),
        (pa.struct([("a", pa.date32())]), 'column "c" is struct<a: date32[day]>'),
        (pa.struct([]), 'column "c" is struct<>'),
    ],
)
def test_types_with_a_policy_of_their_own_go_row_by_row(kind: pa.DataType, why: str) -> None:
    assert why_unsafe(pa.schema([("c", kind)])) == why


def test_what_the_fast_path_cannot_do_is_said(tmp_path: Path) -> None:
    plain, chat = tmp_path / "a.parquet", tmp_path / "b.parquet"
    pq.write_table(pa.table({"a": ["x"]}), plain)
    pq.write_table(pa.table({"conversations": [[{"from": "human", "value": "q"}]]}), chat)
    assert plan_columns(["a.jsonl"], None, "keep", {}) == "a.jsonl is not columnar"
    assert plan_columns([str(plain)], None, "keep", {"x": "a.b"}) == "a mapped name reaches into an object"
    assert "rows are read one by one" in str(plan_columns([str(chat)], LAYOUTS["sharegpt"], "openai", {}))
    assert plan_columns([str(plain)], LAYOUTS["alpaca"], "sharegpt", {}) == 'there is no column "instruction"'


@pytest.mark.parametrize(
    ("column", "values", "options"),
    [
        ("history", pa.array(["", "x", None], pa.string()), {"to_format": "sharegpt"}),
        ("history", pa.array([None, None, None], pa.large_string()), {"to_format": "alpaca"}),
        ("good", pa.array(["true", "no", None]), {"to_format": "kto", "mapping": {"kto_tag": "good"}}),
    ],
)
def test_text_in_the_place_of_a_list_or_a_truth_value_is_for_the_row_path(
    tmp_path: Path, column: str, values: pa.Array, options: dict[str, Any]
) -> None:
    table = pa.table({"instruction": ["a", "b", "c"], "output": ["x", "y", "z"], column: values})
    fast, slow, fast_rows, slow_rows = convert_both_ways(table, tmp_path, **options)
    assert fast_rows == slow_rows
    assert fast["rejected"] == slow["rejected"]


def test_empty_text_and_null_behind_an_index_are_not_told_as_left_out(tmp_path: Path) -> None:
    tags = pa.array(["", "x", None, "x"]).dictionary_encode()
    table = pa.table({"instruction": [*"abcd"], "output": [*"wxyz"], "tag": tags})
    fast, slow, fast_rows, slow_rows = convert_both_ways(table, tmp_path, to_format="sharegpt")
    assert fast["details"]["left_out"] == {"tag": 2}
    check_same(fast, slow, fast_rows, slow_rows)
