"""A file that changes while it is read is refused, and what happened to it is said."""

import os
from pathlib import Path

import pytest

from registry.digest import hashing, sha256_of
from registry.errors import UsageError
from registry.rows import read_rows
from registry.unchanged import unchanged

ROW = b'{"a": "' + b"x" * 1000 + b'"}\n'
MANY = 2000  # rows, more than are read at a time


def grow(path: Path) -> None:
    with path.open("ab") as out:
        out.write(ROW)


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


def write_again(path: Path) -> None:
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(1, 1))


CHANGES = {
    "it grew from": grow,
    "it shrank from": lambda path: os.truncate(path, 100),
    "it was removed": Path.unlink,
    "another file took its place": replace,
    "it was written again": write_again,
}


@pytest.mark.parametrize("told", CHANGES)
def test_a_change_between_two_rows_is_told_at_the_end(tmp_path, told):
    path = tmp_path / "a.jsonl"
    path.write_bytes(ROW * MANY)
    rows = read_rows([path])
    next(rows)
    CHANGES[told](path)
    with pytest.raises(UsageError, match=f"a.jsonl: the file changed while it was read: {told}") as error:
        list(rows)
    assert "read a copy" in str(error.value)


@pytest.mark.parametrize("ending", ["jsonl.gz", "parquet", "arrow", "csv"])
def test_what_fails_because_of_a_change_is_told_as_the_change(tmp_path, ending):
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / f"a.{ending}"
    table = pa.table({"a": [os.urandom(500).hex() for _ in range(MANY)]})
    if ending == "parquet":
        pq.write_table(table, path, row_group_size=100)
    elif ending == "arrow":
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=100)
    elif ending == "csv":
        path.write_bytes(b"a\n" + (b"x" * 1000 + b"\n") * MANY)
    else:
        rows = b"".join(b'{"a": "%s"}\n' % os.urandom(500).hex().encode() for _ in range(MANY))
        path.write_bytes(gzip.compress(rows))
    found = read_rows([path])
    next(found)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UsageError, match="the file changed while it was read: it shrank from"):
        list(found)


def test_whoever_has_seen_enough_is_not_told_of_later_changes(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(ROW * MANY)
    rows = read_rows([path])
    next(rows)
    grow(path)
    rows.close()  # type: ignore[attr-defined]


def test_a_fault_of_a_file_that_did_not_change_stays_what_it_is(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1}')
    with pytest.raises(UsageError, match="the file ends before the array does"):
        list(read_rows([path]))


@pytest.mark.parametrize("name", ["-", "s3://bucket/key.jsonl"])
def test_what_is_no_file_is_not_looked_at(name):
    with unchanged(name):
        pass


def test_a_hash_that_was_taken_before_a_change_is_taken_again(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(ROW)
    with hashing([str(path)]) as digests:
        before = digests.of(str(path))
        grow(path)
        assert digests.of(str(path)) == sha256_of(path) != before
