"""Types keep their value: what each becomes in JSON, and what comes back of it from every container."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from decimal import Decimal
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from datakit.convert import convert_rows
from datakit.values import BINARY, DECIMAL, DURATION, NON_FINITE, TIME

LONG_AGO, FAR_AHEAD = -(10**6), 10**7  # days from 1970
# name -> (column with one null, the same as JSON spells it, what is told of it, its type when it comes back)
POLICY: dict[str, tuple[pa.Array, list, str | None, str]] = {
    "64-bit whole numbers with nulls": (pa.array([2**62 + 1, None]), [2**62 + 1, None], None, "int64"),
    "64-bit without a sign": (pa.array([2**64 - 1, None], pa.uint64()), [2**64 - 1, None], None, "uint64"),
    "8-bit": (pa.array([-3, None], pa.int8()), [-3, None], None, "int64"),
    "64-bit fractions": (pa.array([0.1, None]), [0.1, None], None, "double"),
    "32-bit fractions": (pa.array([0.1, None], pa.float32()), [0.10000000149011612, None], None, "double"),
    "NaN": (pa.array([float("nan"), 0.5]), [None, 0.5], NON_FINITE, "double"),
    "infinity": (pa.array([float("-inf"), 0.5]), [None, 0.5], NON_FINITE, "double"),
    "decimals": (pa.array([Decimal("1.10"), None], pa.decimal128(9, 2)), ["1.10", None], DECIMAL, "string"),
    "timestamps with a zone": (
        pa.array([0, None], pa.timestamp("us", "Asia/Shanghai")), ["1970-01-01T08:00:00+08:00", None], TIME, "string",
    ),
    "timestamps without": (pa.array([1, None], pa.timestamp("ms")), ["1970-01-01T00:00:00.001000", None], TIME, "string"),
    "nanoseconds": (pa.array([1, None], pa.timestamp("ns")), ["1970-01-01T00:00:00.000000001", None], TIME, "string"),
    "dates": (pa.array([0, None], pa.date32()), ["1970-01-01", None], TIME, "string"),
    "dates out of range": (pa.array([FAR_AHEAD, LONG_AGO], pa.date32()), ["+29349-01-26", "-0768-02-04"], TIME, "string"),
    "times of a day": (pa.array([1, None], pa.time64("ns")), ["00:00:00.000000001", None], TIME, "string"),
    "durations": (pa.array([1_500, None], pa.duration("ms")), [1.5, None], DURATION, "double"),
    "intervals": (pa.array([(1, 2, 3), None], pa.month_day_nano_interval()), ["P1M2DT0.000000003S", None], TIME, "string"),
    "bytes": (pa.array([b"\x00\xff", None]), ["AP8=", None], BINARY, "string"),
    "categories": (pa.array(["a", None]).dictionary_encode(), ["a", None], None, "string"),
    "string views": (pa.array(["a", None], pa.string_view()), ["a", None], None, "string"),
    "large strings": (pa.array(["a", None], pa.large_string()), ["a", None], None, "string"),
    "runs": (pa.RunEndEncodedArray.from_arrays(pa.array([1, 2], pa.int32()), ["a", None]), ["a", None], None, "string"),
    "lists": (pa.array([[1, None], None]), [[1, None], None], None, "list<element: int64>"),
    "nested lists": (pa.array([[["a"], []], None]), [[["a"], []], None], None, "list<element: list<element: string>>"),
    "lists of fixed size": (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), [[1, 2], None], None, "list<element: int64>"),
    "objects": (pa.array([{"a": 1, "b": None}, None]), [{"a": 1, "b": None}, None], None, "struct<a: int64, b: null>"),
    "maps": (
        pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())), [{"a": 1}, None], None, "struct<a: int64>",
    ),
    "UUIDs": (pa.array([b"0" * 16, None], pa.uuid()), ["30303030-3030-3030-3030-303030303030", None], None, "string"),
    "nothing but null": (pa.nulls(2), [None, None], None, "null"),
    "truth values": (pa.array([True, None]), [True, None], None, "bool"),
}  # fmt: skip


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """All columns of ``POLICY`` on their way: Arrow to JSONL, to Parquet, to JSONL again; and to CSV and back."""
    folder = tmp_path_factory.mktemp("types")
    table = pa.table({name: column for name, (column, *_) in POLICY.items()})
    with pa.ipc.new_file(str(folder / "in.arrow"), table.schema) as file:
        file.write_table(table)
    way = ("in.arrow", "out.jsonl", "back.parquet", "again.jsonl", "out.csv", "cells.jsonl")
    for source, target in pairwise(way):
        convert_rows([folder / source], folder / target)
    return folder


def column(path, name):
    return [json.loads(line)[name] for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("name", POLICY)
def test_each_type_has_its_spelling_and_comes_back_as_that(converted, name):
    _, spelled, _, kind = POLICY[name]
    assert column(converted / "out.jsonl", name) == spelled
    back = pq.read_table(converted / "back.parquet")
    assert (back[name].to_pylist(), str(back.schema.field(name).type)) == (spelled, kind)
    assert column(converted / "again.jsonl", name) == spelled
    cells = ["" if v is None else v if isinstance(v, str) else json.dumps(v, separators=(",", ":")) for v in spelled]
    assert column(converted / "cells.jsonl", name) == cells


def test_what_is_told_are_the_values_that_became_something_else(converted):
    expected: Counter[str] = Counter()
    for values, spelled, told, _ in POLICY.values():
        if told is not None:
            expected[told] += len(spelled) - values.null_count if told != NON_FINITE else 1
    assert json.loads((converted / "out.jsonl.manifest.json").read_text())["changed_values"] == expected
    assert json.loads((converted / "again.jsonl.manifest.json").read_text())["changed_values"] == {}


def test_an_enormous_text_comes_through_all_containers(tmp_path, read_rows_back):
    text = "ß" * (3 << 20)
    (tmp_path / "a.jsonl").write_text(json.dumps({"t": text}, ensure_ascii=False) + "\n", "utf-8")
    for source, target in (
        ("a.jsonl", "b.parquet"),
        ("b.parquet", "c.csv"),
        ("c.csv", "d.json"),
        ("d.json", "e.jsonl"),
    ):
        convert_rows([tmp_path / source], tmp_path / target)
    assert read_rows_back("e.jsonl") == [{"t": text}]


def test_an_empty_map_is_an_empty_object_and_a_key_met_twice_is_not_lost(tmp_path, read_rows_back):
    array = pa.array([[], [("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int64()))
    pq.write_table(pa.table({"x": array}), tmp_path / "in.parquet")
    convert_rows([tmp_path / "in.parquet"], tmp_path / "out.jsonl")
    assert [row["x"] for row in read_rows_back("out.jsonl")] == [{}, [["a", 1], ["a", 2]]]


def test_values_of_every_kind_are_told_with_their_counts(datakit, tmp_path):
    at = datetime.datetime(2025, 1, 8, tzinfo=datetime.UTC)
    pq.write_table(
        pa.table({"d": [Decimal("1.1")] * 3, "t": [at] * 3, "f": [float("nan"), 1.0, None]}), tmp_path / "a.parquet"
    )
    ran = datakit("convert", "a.parquet", "-o", "b.jsonl")
    assert "warning: NaN and infinite numbers became null: 1" in ran.err
    assert "decimal numbers became text: 3" in ran.err
    assert "dates and times became ISO 8601 text: 3" in ran.err


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_scalars = st.sampled_from(
    [_text, st.integers(-(2**63), 2**63 - 1), st.booleans(), st.floats(allow_nan=False, allow_infinity=False)]
)
_fields = _scalars.flatmap(lambda v: st.sampled_from([v, st.lists(v, max_size=3), st.fixed_dictionaries({"k": v})]))
_rows = st.dictionaries(_text.filter(bool), _fields, min_size=1, max_size=3).flatmap(
    lambda fields: st.lists(
        st.fixed_dictionaries({name: st.none() | values for name, values in fields.items()}), min_size=1, max_size=4
    )
)  # fmt: skip


@settings(max_examples=12)
@example([{"A\0b": "x"}])  # polars panics on such a name
@given(_rows)
def test_rows_come_back_from_parquet_as_they_were(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("rows")
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    convert_rows([folder / "a.jsonl"], folder / "b.parquet")
    convert_rows([folder / "b.parquet"], folder / "c.parquet")
    convert_rows([folder / "c.parquet"], folder / "d.jsonl")
    assert [json.loads(line) for line in (folder / "d.jsonl").read_bytes().split(b"\n")[:-1]] == rows
