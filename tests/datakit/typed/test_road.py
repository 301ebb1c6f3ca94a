"""Columnar files into Parquet: every value and type as it was, whatever is chosen, renamed, filled in or mixed."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datakit.convert import convert_rows
from datakit.typed import BatchShuffle
from registry.arrow_rows import values_of

UTC = datetime.UTC
COLUMNS = {
    "whole": pa.array([2**62 + 1, None, 3], pa.int64()),
    "unsigned": pa.array([2**64 - 1, 0, None], pa.uint64()),
    "small": pa.array([1, None, -3], pa.int8()),
    "single": pa.array([0.1, float("inf"), None], pa.float32()),
    "double": pa.array([float("-inf"), 0.1, None], pa.float64()),
    "half": pa.array([1.5, None, 2.0], pa.float16()),
    "decimal": pa.array([Decimal("1.10"), None, Decimal("-0.01")], pa.decimal128(20, 2)),
    "wide": pa.array([Decimal("1.10"), None, Decimal(10) ** 40], pa.decimal256(60, 2)),
    "moment": pa.array([0, None, 10**18], pa.timestamp("us", "Asia/Shanghai")),
    "nanos": pa.array([1, None, 2**62], pa.timestamp("ns")),
    "day": pa.array([0, None, 10**7], pa.date32()),
    "time": pa.array([1, None, 2], pa.time64("ns")),
    "took": pa.array([1, None, 2], pa.duration("ns")),
    "bytes": pa.array([b"\x00\xff", None, b""]),
    "text": pa.array(["a", None, ""]),
    "large": pa.array(["a", None, "b"], pa.large_string()),
    "category": pa.array(["a", None, "b"]).dictionary_encode(),
    "list": pa.array([[1, None], None, []]),
    "pair": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int64(), 2)),
    "deep": pa.array([[["a"]], None, [[]]]),
    "object": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": ""}]),
    "map": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    "nothing": pa.nulls(3),
    "uuid": pa.array([b"0" * 16, None, b"1" * 16], pa.uuid()),
    "truth": pa.array([True, None, False]),
}
TABLE = pa.table(COLUMNS)


@pytest.fixture
def source(tmp_path):
    pq.write_table(TABLE, tmp_path / "in.parquet")
    return tmp_path / "in.parquet"


def convert(source, out, **options):
    outcome = convert_rows([source], out, **options)
    assert outcome.details["path"] == "arrow"
    return pq.read_table(out), outcome


def test_every_type_and_value_stays_what_it_is(source, tmp_path):
    found, outcome = convert(source, tmp_path / "out.parquet")
    assert found.schema.equals(TABLE.schema)
    assert found.equals(TABLE)
    assert (outcome.rows_in, outcome.rows_out) == (3, 3)
    manifest = json.loads((tmp_path / "out.parquet.manifest.json").read_text())
    assert (manifest["details"]["path"], manifest["changed_values"]) == ("arrow", {})


def test_arrow_files_and_types_that_parquet_spells_otherwise_keep_their_values(tmp_path):
    table = pa.table({
        "view": pa.array(["a", None, "b"], pa.string_view()),
        "bytes": pa.array([b"a", None, b"b"], pa.binary_view()),
        "runs": pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), ["x", "y"]),
        "seconds": pa.array([1, None, 2], pa.timestamp("s")),
        "day": pa.array([86_400_000, None, 0], pa.date64()),
    })  # fmt: skip
    with pa.ipc.new_file(str(tmp_path / "in.arrow"), table.schema) as file:
        file.write_table(table)
    found, _ = convert(tmp_path / "in.arrow", tmp_path / "out.parquet")
    assert {name: values_of(found[name].combine_chunks()) for name in found.column_names} == {
        name: values_of(table[name].chunk(0)) for name in table.column_names
    }


def test_a_chosen_row_is_the_very_row(source, tmp_path):
    found, outcome = convert(source, tmp_path / "out.parquet", where="small is null or small = -3")
    assert found.equals(TABLE.slice(1))
    assert outcome.filtered == {"--where": 1}


def test_mixed_rows_are_the_very_rows(source, tmp_path):
    found, _ = convert(source, tmp_path / "out.parquet", shuffle=True, seed=3)
    order = [COLUMNS["small"].to_pylist().index(value) for value in found["small"].to_pylist()]
    assert sorted(order) == [0, 1, 2]
    assert found.equals(TABLE.take(pa.array(order)))


def test_columns_are_renamed_and_fields_copied_out(source, tmp_path):
    found, _ = convert(source, tmp_path / "out.parquet", mapping={"number": "whole", "inner": "object.a"}, limit=2)
    assert found.column_names == ["number", *TABLE.column_names[1:], "inner"]
    assert (found["number"].to_pylist(), found["inner"].to_pylist()) == ([2**62 + 1, None], [1, None])
    assert found["object"].equals(TABLE["object"].slice(0, 2))


def test_files_with_other_columns_are_put_together(tmp_path):
    pq.write_table(pa.table({"a": pa.array([1], pa.int8()), "b": ["x"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"c": [Decimal("0.5")], "a": pa.array([300], pa.int16())}), tmp_path / "2.parquet")
    convert_rows([tmp_path / "1.parquet", tmp_path / "2.parquet"], tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == [
        {"a": 1, "b": "x", "c": None}, {"a": 300, "b": None, "c": Decimal("0.5")}
    ]  # fmt: skip


def test_texts_are_filled_in_at_any_depth_and_what_is_left_is_counted(tmp_path):
    table = pa.table({
        "t": ["{{name}} and {{other}}", None],
        "n": [[{"v": "I am {{ name }}", "d": Decimal("1.0")}], None],
        "c": pa.array(["{{name}}", "x"]).dictionary_encode(),
        "at": pa.array([1, 2], pa.timestamp("ns")),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "in.parquet")
    found, outcome = convert(tmp_path / "in.parquet", tmp_path / "out.parquet", fill={"name": "Ada"})
    assert found.schema.equals(table.schema)
    assert found["t"].to_pylist() == ["Ada and {{other}}", None]
    assert found["n"].to_pylist() == [[{"v": "I am Ada", "d": Decimal("1.0")}], None]
    assert found["c"].to_pylist() == ["Ada", "x"]
    assert outcome.details["placeholders_left"] == {"other": 1}
    _, outcome = convert(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert outcome.details["placeholders_left"] == {"name": 3, "other": 1}


def test_rows_whose_text_is_no_utf_8_are_rejected_and_the_others_kept(tmp_path, read_rows_back):
    broken = pa.StringArray.from_buffers(
        3, pa.array([0, 1, 3, 4], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff\xfeb")
    )
    pq.write_table(pa.table({"n": [1, 2, 3], "t": broken}), tmp_path / "in.parquet")
    found, outcome = convert(tmp_path / "in.parquet", tmp_path / "out.parquet", where="n > 1")
    assert found.to_pylist() == [{"n": 3, "t": "b"}]
    (reject,) = read_rows_back("out.parquet.rejects.jsonl")
    assert (reject["row"], reject["reason"]) == (2, 'column "t": invalid UTF-8: byte 0xff')
    assert json.loads(reject["raw"]) == {"n": 2, "t": "\\xff\\xfe"}
    assert (outcome.rows_in, outcome.rows_out, outcome.num_rejected, outcome.filtered) == (3, 1, 1, {"--where": 1})


def test_a_row_of_which_nothing_can_be_said_is_rejected(tmp_path, read_rows_back):
    pq.write_table(pa.table({"s": ["5", None]}), tmp_path / "in.parquet")
    _, outcome = convert(tmp_path / "in.parquet", tmp_path / "out.parquet", where="s > 4")
    (reject,) = read_rows_back("out.parquet.rejects.jsonl")
    assert (reject["row"], reject["field"], json.loads(reject["raw"])) == (1, "--where", {"s": "5"})
    assert outcome.exit_code == 1


def test_where_no_row_matches_the_file_has_the_columns_all_the_same(source, tmp_path):
    found, outcome = convert(source, tmp_path / "out.parquet", where="small = 99")
    assert (found.num_rows, found.schema) == (0, TABLE.schema)
    assert outcome.exit_code == 0


def test_each_shard_has_the_schema_and_its_share(source, tmp_path):
    convert_rows([source], tmp_path / "p-{:02d}.parquet", shard_rows=2)
    tables = [pq.read_table(tmp_path / f"p-{n:02d}.parquet") for n in range(2)]
    assert [table.num_rows for table in tables] == [2, 1]
    assert pa.concat_tables(tables).equals(TABLE)


def test_types_that_cannot_stay_are_told_of(datakit, tmp_path):
    pq.write_table(pa.table({"a": [Decimal("1.10")]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"a": ["x"]}), tmp_path / "b.parquet")
    ran = datakit("convert", "a.parquet", "b.parquet", "-o", "out.parquet", "--json")
    assert ran.json["path"] == "rows"
    told = (
        'values pass through JSON and get types of their own, as column "a" is decimal128(3, 2) in one file and string'
    )
    assert told in ran.err


def test_values_beyond_what_parquet_reaches_are_refused_by_name(datakit, tmp_path):
    table = pa.table({"at": pa.array([2**62], pa.timestamp("s"))})
    with pa.ipc.new_file(str(tmp_path / "in.arrow"), table.schema) as file:
        file.write_table(table)
    ran = datakit("convert", "in.arrow", "-o", "out.parquet")
    assert ran.code == 2
    assert "a value cannot be written as Parquet" in ran.err
    assert not (tmp_path / "out.parquet").exists()


@settings(max_examples=30)
@given(st.integers(0, 300), st.integers(0, 5), st.sampled_from([500, 4_000, 10**6]), st.none() | st.integers(0, 320))
def test_batches_are_mixed_into_the_order_that_lines_are(rows, seed, window, limit):
    from datakit.shuffle import Shuffle

    schema = pa.schema([("n", pa.int64()), ("key", pa.string())])
    with BatchShuffle(seed, None, limit, window=window) as mixer, Shuffle(seed, None, limit) as lines:
        for start in range(0, rows, 50):
            numbers = list(range(start, min(start + 50, rows)))
            mixer.add(pa.record_batch({"n": numbers, "key": [f"{n}" * 3 for n in numbers]}, schema))
            for n in numbers:
                lines.add(b"%d" % n)
        found = [row for batch in mixer.batches(schema) for row in batch.to_pylist()]
        expected = [int(line) for line in lines.lines()]
    assert [row["n"] for row in found] == expected
    assert all(row["key"] == f"{row['n']}" * 3 for row in found)
