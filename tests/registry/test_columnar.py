"""Batches of Parquet and Arrow files: bounded in size, all rows of them, and none of a file that is not sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import registry.columnar
from registry.columnar import is_columnar, read_batches, schema_of
from registry.errors import UsageError
from tests.datakit.corpus.columnar import bad_text, told

TABLE = pa.table({"a": list(range(1000)), "b": [f"text {i}" for i in range(1000)]})


def write(path: Path, table: pa.Table = TABLE, **options: Any) -> str:
    if path.suffix == ".parquet":
        pq.write_table(table, path, **options)
    else:
        with (pa.ipc.new_file if path.stem == "file" else pa.ipc.new_stream)(str(path), table.schema) as writer:
            writer.write_table(table)
    return str(path)


@pytest.mark.parametrize("name", ["a.parquet", "file.arrow", "stream.arrow"])
def test_all_rows_come_in_order_in_small_batches(tmp_path, monkeypatch, name):
    path = write(tmp_path / name)
    monkeypatch.setattr(registry.columnar, "BATCH_ROWS", 64)
    batches = list(read_batches(path))
    assert max(batch.num_rows for batch in batches) == 64
    assert pa.Table.from_batches(batches) == TABLE
    assert schema_of(path) == TABLE.schema


@pytest.mark.parametrize("name", ["a.parquet", "file.arrow"])
def test_wide_rows_come_in_batches_of_fewer(tmp_path, monkeypatch, name):
    path = write(tmp_path / name, compression="none") if name == "a.parquet" else write(tmp_path / name)
    monkeypatch.setattr(registry.columnar, "BATCH_BYTES", 2000)
    assert max(batch.num_rows for batch in read_batches(path)) < 200


def test_many_columns_of_nothing_bound_a_batch_too(tmp_path, monkeypatch):
    monkeypatch.setattr(registry.columnar, "BATCH_CELLS", 300)
    path = write(tmp_path / "a.parquet", pa.table({f"c{i}": pa.nulls(500) for i in range(100)}))
    assert {batch.num_rows for batch in read_batches(path)} == {3, 2}


@pytest.mark.parametrize(("count", "says"), [(1500, "1,500 rows, 1,000 are there"), (900, "900 rows, 1,000 are there")])
def test_a_footer_that_tells_of_other_rows_is_refused(tmp_path, count, says):
    path = Path(write(tmp_path / "a.parquet"))
    path.write_bytes(told(count, slice(0, 1))(path.read_bytes()))
    with pytest.raises(UsageError, match=says):
        list(read_batches(str(path)))


def test_offsets_out_of_bounds_are_refused_beside_text_that_is_no_utf8(tmp_path):
    """Both at once: text that is no UTF-8 is let through, and may not let a wrong offset through with it."""
    table = pa.table({"bad": bad_text()["instruction"], "raw": pa.array([b"ab", b"cd", b"ef"])})
    path = Path(write(tmp_path / "file.arrow", table))
    assert len(list(read_batches(str(path)))) == 1
    data, offsets = path.read_bytes(), pa.array([0, 2, 4, 6], pa.int32()).buffers()[1].to_pybytes()[:16]
    assert offsets in data
    path.write_bytes(data.replace(offsets, offsets[:4] + b"\x00\x00\x00\x40" + offsets[8:]))
    with pytest.raises(UsageError, match="cannot be read as Arrow: "):
        list(read_batches(str(path)))


@pytest.mark.parametrize("name", ["a.parquet", "file.arrow"])
def test_a_column_whose_name_is_no_utf8_is_refused(tmp_path, name):
    path = Path(
        write(tmp_path / name, pa.table({"naïve": [1]}), **({"store_schema": False} if "p" in name[:3] else {}))
    )
    path.write_bytes(path.read_bytes().replace("naïve".encode(), b"na\xff\xffve"))
    with pytest.raises(UsageError, match="cannot be read as"):
        list(read_batches(str(path)))


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "it is a pointer of Git LFS\n  Fetch"),
        (b"PK\x03\x04", "it is a zip archive\n  Unpack it first"),
        (b"PAR1", "cannot be read as Parquet: Parquet"),
    ],
)
def test_what_only_its_name_makes_a_table_is_told_for_what_it_is(tmp_path, head, says):
    (tmp_path / "a.parquet").write_bytes(head)
    with pytest.raises(UsageError, match=says):
        schema_of(str(tmp_path / "a.parquet"))


@pytest.mark.parametrize(("name", "expected"), [("a.parquet", True), ("a.arrow", True), ("a.csv", False), ("-", False)])
def test_the_ending_says_what_is_columnar(name, expected):
    assert is_columnar(name) == expected
