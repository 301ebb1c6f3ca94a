"""Which columnar files can go into Parquet with their types, and the schema of all of them together."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datakit.typed.plan import TypedPlan, common_type, holds_text, plan_typed


def written(tmp_path, *tables):
    for number, table in enumerate(tables):
        pq.write_table(pa.table(table), tmp_path / f"{number}.parquet")
    return [str(tmp_path / f"{number}.parquet") for number in range(len(tables))]


def planned(files, mapping=None, fill=None):
    plan = plan_typed(files, mapping or {}, fill or {})
    return [(f.name, str(f.type)) for f in plan.schema] if isinstance(plan, TypedPlan) else plan


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        (pa.int8(), pa.int64(), pa.int64()),
        (pa.uint8(), pa.uint64(), pa.uint64()),
        (pa.float32(), pa.float64(), pa.float64()),
        (pa.null(), pa.date32(), pa.date32()),
        (pa.string(), pa.large_string(), pa.large_string()),
        (pa.string_view(), pa.string(), pa.large_string()),
        (pa.list_(pa.int8()), pa.list_(pa.int8()), pa.list_(pa.int8())),
        (pa.int64(), pa.uint64(), None),
        (pa.int64(), pa.float64(), None),
        (pa.int64(), pa.string(), None),
        (pa.timestamp("us"), pa.timestamp("ns"), None),
        (pa.timestamp("us", "UTC"), pa.timestamp("us"), None),
    ],
    ids=str,
)
def test_two_types_have_a_common_one_only_where_it_holds_every_value_of_both(one, other, common):
    assert common_type(one, other) == common_type(other, one) == common


def test_files_are_put_together_by_name_and_columns_may_be_missing(tmp_path):
    files = written(
        tmp_path, {"a": pa.array([1], pa.int8()), "b": ["x"]}, {"c": [True], "a": pa.array([1], pa.int32())}
    )
    assert planned(files) == [("a", "int32"), ("b", "string"), ("c", "bool")]


def test_columns_are_renamed_in_place_and_fields_of_objects_copied_behind_them(tmp_path):
    files = written(tmp_path, {"a": [1], "o": [{"in": {"k": "x"}}], "b": [2]})
    assert planned(files, {"x": "a", "y": "a", "z": "o.in.k"}) == [
        ("x", "int64"), ("y", "int64"), ("o", "struct<in: struct<k: string>>"), ("b", "int64"), ("z", "string")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("tables", "mapping", "fill", "reason"),
    [
        ([{"a": [1]}, {"a": ["x"]}], {}, {}, 'column "a" is int64 in one file and string in another'),
        ([{"a": [1], "b": [2]}], {"a": "b"}, {}, '"a" is there already'),
        ([{"a": [[1]]}], {"x": "a.0"}, {}, "a.0 reaches into more than objects"),
        ([{"a": [1]}], {"x": "b"}, {}, "b reaches into more than objects"),
        (
            [{"a": pa.array([[("k", "v")]], pa.map_(pa.string(), pa.string()))}], {}, {"x": "y"},
            'column "a" is map<string, string (\'a\')>, in which nothing can be filled in',
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_said_of_whole_columns_goes_through_json(tmp_path, tables, mapping, fill, reason):
    assert planned(written(tmp_path, *tables), mapping, fill) == reason


def test_types_that_parquet_has_no_place_for_go_through_json(tmp_path):
    table = pa.table({"took": pa.array([(1, 2, 3)], pa.month_day_nano_interval())})
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as file:
        file.write_table(table)
    assert 'column "took" is month_day_nano_interval: ' in planned([str(tmp_path / "a.arrow")])


def test_other_containers_are_not_columnar(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}\n")
    assert planned([str(tmp_path / "a.jsonl")]) == f"{tmp_path / 'a.jsonl'} is not columnar"


def test_where_text_can_stand_is_known_by_the_type():
    texts = [
        pa.string(), pa.large_string(), pa.list_(pa.string()), pa.struct([("a", pa.int8()), ("b", pa.string())]),
        pa.map_(pa.string(), pa.int8()), pa.dictionary(pa.int8(), pa.string()),
    ]  # fmt: skip
    others = [pa.int8(), pa.binary(), pa.list_(pa.int8()), pa.struct([]), pa.uuid(), pa.null(), pa.date32()]
    assert [holds_text(kind) for kind in texts] == [True] * len(texts)
    assert [holds_text(kind) for kind in others] == [False] * len(others)


def test_what_other_tools_note_beside_a_schema_is_kept_while_its_columns_are(tmp_path):
    table = pa.table({"a": [1]}).replace_schema_metadata({"huggingface": "{}"})
    pq.write_table(table, tmp_path / "a.parquet")
    kept = plan_typed([str(tmp_path / "a.parquet")], {}, {})
    renamed = plan_typed([str(tmp_path / "a.parquet")], {"b": "a"}, {})
    assert isinstance(kept, TypedPlan)
    assert isinstance(renamed, TypedPlan)
    assert (kept.schema.metadata, renamed.schema.metadata) == ({b"huggingface": b"{}"}, None)
