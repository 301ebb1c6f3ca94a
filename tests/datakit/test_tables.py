"""Tables need their columns before the first row is written: they are learnt while the rows wait."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datakit import tables
from datakit.tables import TypeLearner, delimited_writer, parquet_writer
from datakit.values import EMPTY_OBJECT, encode_row
from registry.errors import UsageError
from registry.rows import read_rows


def as_parquet(rows: list[dict], changes: Counter[str] | None = None) -> pa.Table:
    handle = io.BytesIO()
    with parquet_writer(lambda: handle, None, Path(), Counter() if changes is None else changes) as write:
        for row in rows:
            write(encode_row(row, Counter()))
    return pq.read_table(io.BytesIO(handle.getvalue()))


_int64 = st.integers(-(2**53), 2**53)
_text = st.text(st.characters(exclude_categories=["Cs"]))
_scalar = st.sampled_from([_text, _int64, st.booleans(), st.floats(allow_nan=False, allow_infinity=False)])
_field = _scalar.flatmap(
    lambda values: st.sampled_from(
        [values, st.lists(values), st.fixed_dictionaries({"a": values, "b": st.lists(values)})]
    )
)
_rows = st.dictionaries(_text, _field, min_size=1, max_size=3).flatmap(
    lambda fields: st.lists(
        st.fixed_dictionaries({name: st.none() | values for name, values in fields.items()}), min_size=1
    )
)


@settings(deadline=None)
@given(_rows)
def test_rows_of_like_types_come_back_from_parquet_as_they_were(rows):
    assert as_parquet(rows).to_pylist() == rows


def test_columns_and_keys_that_come_late_are_null_before(monkeypatch):
    monkeypatch.setattr(tables, "BATCH_ROWS", 2)
    rows = [{"a": 1}, {"a": None}, {"a": 2, "b": {"x": "y"}}, {"b": {"x": "y", "z": [1]}}, {"b": {"z": [0.5]}}]
    assert as_parquet(rows).to_pylist() == [
        {"a": 1, "b": None},
        {"a": None, "b": None},
        {"a": 2, "b": {"x": "y", "z": None}},
        {"a": None, "b": {"x": "y", "z": [1.0]}},
        {"a": None, "b": {"x": None, "z": [0.5]}},
    ]


@pytest.mark.parametrize("batch_rows", [1, 2, 100], ids=["across batches", "at a joint", "within a batch"])
@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ("text", 1, "string in row 2, int64 in row 4"),
        (True, 1, "bool in row 2, int64 in row 4"),
        (0.5, False, "double in row 2, bool in row 4"),
        ({"k": 1}, "text", "struct<k: int64> in row 2, string in row 4"),
        ([1], {"k": 1}, "list<item: int64> in row 2, struct<k: int64> in row 4"),
        ({"k": "x"}, {"k": 2}, "struct<k: string> in row 2, struct<k: int64> in row 4"),
    ],
)
def test_values_without_a_common_type_are_told_by_column_types_and_rows(monkeypatch, batch_rows, one, other, told):
    monkeypatch.setattr(tables, "BATCH_ROWS", batch_rows)
    with pytest.raises(UsageError) as error:
        as_parquet([{"c": None}, {"c": one}, {"c": one}, {"c": other}])
    assert 'column "c"' in str(error.value)
    assert told in str(error.value)


def test_a_list_of_several_kinds_is_told_by_its_row():
    with pytest.raises(UsageError, match=r"row 2 holds several in one list: \[1, 'a'\]"):
        as_parquet([{"c": [1]}, {"c": [1, "a"]}])


def test_numbers_too_large_for_their_type_are_refused_not_rounded():
    for rows in ([{"n": 2**64}], [{"n": 2**63}, {"n": -1}], [{"n": 2**53 + 1}, {"n": 0.5}]):
        with pytest.raises(UsageError, match="too large for its type"):
            as_parquet(rows)


@pytest.mark.parametrize("batch_rows", [1, 100])
def test_whole_numbers_of_64_bits_without_a_sign_are_kept(monkeypatch, batch_rows):
    monkeypatch.setattr(tables, "BATCH_ROWS", batch_rows)
    rows = [{"n": 1, "l": [2**64 - 1]}, {"n": 2**64 - 1, "l": []}, {"n": None, "l": None}]
    found = as_parquet(rows)
    assert found.to_pylist() == rows
    assert found.schema.field("n").type == pa.uint64()


def test_objects_that_never_have_a_key_become_null_and_are_counted():
    changes: Counter[str] = Counter()
    assert as_parquet([{"a": {}, "b": [{}], "c": {"d": {}}}], changes).to_pylist() == [
        {"a": None, "b": [None], "c": {"d": None}}
    ]
    assert changes[EMPTY_OBJECT] == 3


def test_an_object_that_has_keys_elsewhere_is_no_empty_object():
    changes: Counter[str] = Counter()
    assert as_parquet([{"a": {}}, {"a": {"k": 1}}], changes).to_pylist() == [{"a": {"k": None}}, {"a": {"k": 1}}]
    assert changes.total() == 0


def test_rows_without_any_column_have_no_place_in_a_table():
    with pytest.raises(UsageError, match="the rows hold no column"):
        as_parquet([{}, {}])


def test_only_types_and_first_rows_are_kept_while_batches_pass():
    learner = TypeLearner()
    for _ in range(3):
        learner.learn([{"a": 1, "b": "x"}] * 10)
    assert learner.types == {"a": pa.int64(), "b": pa.string()}
    assert vars(learner)["_first"] == {"a": 1, "b": 1}


def test_csv_cells_are_text_as_it_is_and_all_else_as_json():
    handle = io.BytesIO()
    with delimited_writer(lambda: handle, None, Path(), ",") as write:
        for row in ({"t": 'a,"b"\nc', "n": 0.5}, {"t": None, "n": True, "late": {"k": [None, "ü"]}}, {"late": 2**70}):
            write(json.dumps(row).encode())
    assert handle.getvalue().decode() == (
        't,n,late\n"a,""b""\nc",0.5,\n,true,"{""k"":[null,""ü""]}"\n,,1180591620717411303424\n'
    )


def test_csv_cells_with_a_carriage_return_are_quoted_as_readers_take_it_for_the_end_of_a_row(tmp_path):
    handle = io.BytesIO()
    rows = [{"a\rb": "x\ry", "n": None}, {"a\rb": "\r", "n": "z"}]
    with delimited_writer(lambda: handle, None, Path(), ",") as write:
        for row in rows:
            write(encode_row(row, Counter()))
    assert handle.getvalue() == b'"a\rb","n"\n"x\ry",""\n"\r","z"\n'
    (tmp_path / "a.csv").write_bytes(handle.getvalue())
    assert [row.data for row in read_rows([tmp_path / "a.csv"])] == [{"a\rb": "x\ry", "n": ""}, rows[1]]
