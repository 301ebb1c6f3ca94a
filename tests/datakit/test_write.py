"""Where rows go: every container, whole or not at all, with a manifest that tells the truth about the files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datakit.together import Together
from datakit.values import encode_row
from datakit.write import Sink, family, open_sink
from registry.atomic import TEMPORARY_MARK
from registry.errors import RowFault, UsageError
from registry.rows import BadRow, Row, read_rows

ROWS = [{"text": 'Grüße, "du"\n', "n": "1"}, {"text": "\tb", "n": "2"}]


def write_all(out, rows, *, shard_rows=None):
    with open_sink(out, None, [], shard_rows) as sink:
        for number, row in enumerate(rows, start=1):
            sink.ledger.read("in.jsonl")
            sink.accept(Row("in.jsonl", number, row), row)
        return sink.close_books("test", {}, [], {})


@pytest.mark.parametrize(
    "name",
    [
        "o.jsonl",
        "o.json",
        "o.csv",
        "o.tsv",
        "o.parquet",
        "o.jsonl.gz",
        "o.jsonl.zst",
        "o.json.gz",
        "o.csv.zst",
        "o.tsv.gz",
    ],
)
def test_rows_of_text_come_back_from_every_container(tmp_path, name):
    write_all(tmp_path / name, ROWS)
    assert [row.data for row in read_rows([tmp_path / name]) if isinstance(row, Row)] == ROWS


_text = st.text(st.characters(exclude_categories=["Cs"]))


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.builds(lambda a, b: {"a": a, "b": b}, _text, st.lists(st.integers(0, 9))), min_size=1))
def test_jsonl_to_parquet_to_jsonl_is_the_same_to_the_byte(tmp_path, rows):
    first, packed, second = tmp_path / "1.jsonl", tmp_path / "2.parquet", tmp_path / "3.jsonl"
    write_all(first, rows)
    for source, target in ((first, packed), (packed, second)):
        write_all(target, [row.data for row in read_rows([source]) if isinstance(row, Row)])
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("name", ["o.jsonl.gz", "o.csv.gz", "o.parquet"])
def test_the_same_rows_give_the_same_bytes(tmp_path, name):
    write_all(tmp_path / name, ROWS)
    first = (tmp_path / name).read_bytes()
    write_all(tmp_path / name, ROWS)
    assert (tmp_path / name).read_bytes() == first


def test_a_gzip_file_does_not_tell_when_it_was_written(tmp_path):
    write_all(tmp_path / "o.jsonl.gz", ROWS)
    assert (tmp_path / "o.jsonl.gz").read_bytes()[4:8] == bytes(4)


def test_an_empty_array_is_still_json(tmp_path):
    write_all(tmp_path / "o.json", [])
    assert json.loads((tmp_path / "o.json").read_text()) == []


def test_the_manifest_hashes_what_was_written(tmp_path):
    out = tmp_path / "o.jsonl"
    outcome = write_all(out, ROWS)
    manifest = json.loads((tmp_path / "o.jsonl.manifest.json").read_text())
    assert manifest["outputs"] == [
        {"file": str(out), "bytes": out.stat().st_size, "sha256": hashlib.sha256(out.read_bytes()).hexdigest()}
    ]
    assert (outcome.rows_in, outcome.rows_out, outcome.outputs) == (2, 2, (out,))


@pytest.mark.parametrize("name", ["o.jsonl", None], ids=["rows are kept", "rows are only counted"])
def test_a_row_that_went_missing_is_a_fault_of_ours_and_nothing_is_written(tmp_path, name):
    def lose_a_row():
        with open_sink(tmp_path / name if name else None, None, []) as sink:
            sink.ledger.read("in.jsonl")
            sink.close_books("test", {}, [], {})

    with pytest.raises(AssertionError, match="1 rows in, 0 out, 0 rejected"):
        lose_a_row()
    assert list(tmp_path.iterdir()) == []


def test_rejects_tell_the_row_even_where_it_is_no_json(tmp_path):
    with open_sink(tmp_path / "o.jsonl", None, []) as sink:
        for row, field in ((BadRow("a.jsonl", 7, "not JSON", "{oops"), ""), (Row("a.jsonl", 8, {"x": "\ud800"}), "x")):
            sink.ledger.read(row.file)
            sink.reject(row, field, "why")
        sink.close_books("test", {}, [], {})
    assert [json.loads(line) for line in (tmp_path / "o.jsonl.rejects.jsonl").read_text().splitlines()] == [
        {"file": "a.jsonl", "row": 7, "field": "", "reason": "why", "raw": "{oops"},
        {"file": "a.jsonl", "row": 8, "field": "x", "reason": "why", "raw": '{"x":"\ufffd"}'},
    ]


@pytest.mark.parametrize("too_much", ["o.jsonl", "o.jsonl.rejects.jsonl", "o.jsonl.manifest.json"])
def test_a_disk_that_fills_up_leaves_all_files_as_they_were(tmp_path, monkeypatch, too_much):
    out = tmp_path / "o.jsonl"
    for name in ("o.jsonl", "o.jsonl.manifest.json", "o.jsonl.rejects.jsonl"):
        (tmp_path / name).write_text("before")
    real = os.fsync

    def fsync(descriptor):
        inode = os.fstat(descriptor).st_ino
        name = next((p.name for p in tmp_path.iterdir() if p.stat().st_ino == inode), "")
        if name.startswith(f".{too_much}{TEMPORARY_MARK}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    def write_one_and_reject_one():
        with open_sink(out, None, []) as sink:
            sink.ledger.read("a")
            sink.accept(Row("a", 1, {}), {})
            sink.ledger.read("a")
            sink.reject(BadRow("a", 2, "not JSON", ""), "", "not JSON")
            sink.close_books("test", {}, [], {})

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space"):
        write_one_and_reject_one()
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {
        "o.jsonl": "before", "o.jsonl.manifest.json": "before", "o.jsonl.rejects.jsonl": "before"
    }  # fmt: skip


def numbered(first, last):
    return [{"n": n, "t": "é" * (n % 3)} for n in range(first, last)]


def rows_in(*names):
    return [row.data for row in read_rows(list(names)) if isinstance(row, Row)]


@pytest.mark.parametrize(
    "ending", [".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".jsonl.zst", ".csv.gz", ".json.zst"]
)
def test_shards_hold_so_many_rows_each_in_every_container(tmp_path, ending):
    rows = [{"n": str(n)} for n in range(7)]
    outcome = write_all(tmp_path / f"x{ending}", rows, shard_rows=3)
    names = [tmp_path / f"x-0000{i}{ending}" for i in range(3)]
    assert outcome.outputs == tuple(names)
    assert [rows_in(name) for name in names] == [rows[:3], rows[3:6], rows[6:]]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *(name.name for name in names), f"x{ending}.manifest.json"
    ]  # fmt: skip
    manifest = json.loads((tmp_path / f"x{ending}.manifest.json").read_text())
    assert manifest["shard_rows"] == 3
    assert [entry["file"] for entry in manifest["outputs"]] == [str(name) for name in names]
    for entry, name in zip(manifest["outputs"], names, strict=True):
        assert entry["sha256"] == hashlib.sha256(name.read_bytes()).hexdigest()


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".parquet"])
@pytest.mark.parametrize(("num_rows", "num_files"), [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2)])
def test_no_shard_is_empty_but_one_where_there_is_no_row(tmp_path, ending, num_rows, num_files):
    rows = [{"a": 1}] * num_rows
    if ending == ".parquet" and not num_rows:
        rows, num_files = [{"a": None}], 1
    assert len(write_all(tmp_path / f"x{ending}", rows, shard_rows=2).outputs) == num_files


def test_shards_of_tables_share_the_columns_and_types_of_all_rows(tmp_path):
    rows = [{"a": 1}, {"a": 2}, {"a": 0.5, "late": {"k": "x"}}]
    write_all(tmp_path / "x.parquet", rows, shard_rows=2)
    write_all(tmp_path / "x.csv", rows, shard_rows=2)
    first, second = (pq.read_schema(tmp_path / f"x-0000{i}.parquet") for i in range(2))
    assert first.equals(second)
    assert first.names == ["a", "late"]
    assert rows_in(tmp_path / "x-00000.parquet") == [{"a": 1.0, "late": None}, {"a": 2.0, "late": None}]
    assert (tmp_path / "x-00000.csv").read_text() == "a,late\n1,\n2,\n"


def test_shards_of_an_earlier_run_do_not_survive_and_other_files_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_all("x.jsonl", numbered(0, 5), shard_rows=1)
    (tmp_path / "x-00007.jsonl").write_text("another's\n")
    (tmp_path / "x-00004.jsonl").write_text("changed since\n")
    write_all("x-{:05d}.jsonl", numbered(0, 2), shard_rows=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "x-00000.jsonl", "x-00001.jsonl", "x-00004.jsonl", "x-00007.jsonl", "x.jsonl.manifest.json"
    ]  # fmt: skip


def test_shards_give_way_to_one_file_and_one_file_to_shards(tmp_path):
    write_all(tmp_path / "x_{:02d}.jsonl", numbered(0, 3), shard_rows=1)
    write_all(tmp_path / "x.jsonl", numbered(0, 3))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.jsonl", "x.jsonl.manifest.json"]
    write_all(tmp_path / "x.jsonl", numbered(0, 3), shard_rows=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x-00000.jsonl", "x-00001.jsonl", "x.jsonl.manifest.json"]


def test_shards_that_are_sources_now_are_never_removed(tmp_path):
    write_all(tmp_path / "x.jsonl", numbered(0, 3), shard_rows=1)
    sources = [str(tmp_path / f"x-0000{i}.jsonl") for i in range(3)]
    with open_sink(tmp_path / "x.jsonl", None, sources) as sink:
        for row in read_rows(sources):
            sink.ledger.read(row.file)
            sink.accept(row, row.data)
        sink.close_books("test", {}, sources, {})
    assert rows_in(tmp_path / "x.jsonl") == rows_in(*sources) == numbered(0, 3)


def test_rejects_that_were_sent_elsewhere_are_no_shards(tmp_path):
    with open_sink(tmp_path / "x.jsonl", tmp_path / "x-1.jsonl", []) as sink:
        sink.ledger.read("a")
        sink.reject(BadRow("a", 1, "not JSON", "{"), "", "not JSON")
        sink.close_books("test", {}, [], {})
    write_all(tmp_path / "x.jsonl", numbered(0, 1))
    assert (tmp_path / "x-1.jsonl").exists()


def test_a_failure_leaves_the_shards_of_the_earlier_run_all_of_them(tmp_path):
    write_all(tmp_path / "x.jsonl", numbered(0, 5), shard_rows=1)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def fail_in_the_third():
        with open_sink(tmp_path / "x.jsonl", None, [], 1) as sink:
            for number in range(3):
                sink.accept(Row("a", number, {}), {"new": number})
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fail_in_the_third()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not tell which files are open")
def test_shards_that_are_full_are_no_open_files(tmp_path):
    def num_open():
        return len(list(Path("/proc/self/fd").iterdir()))

    before = num_open()
    with open_sink(tmp_path / "x.jsonl", None, [], 1) as sink:
        for number in range(60):
            sink.ledger.read("a")
            sink.accept(Row("a", number, {}), {})
        assert num_open() <= before + 2
        sink.close_books("test", {}, [], {})
    assert len(list(tmp_path.iterdir())) == 61


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(0, 7), max_size=6),
    st.none() | st.integers(1, 6),
    st.sampled_from([".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".csv"]),
)
def test_blocks_of_lines_give_the_files_that_single_rows_give(tmp_path_factory, sizes, shard_rows, ending):
    rows, blocks = numbered(0, sum(sizes)), tmp_path_factory.mktemp("blocks")
    with open_sink(blocks / f"x{ending}", None, [], shard_rows) as sink:
        assert sink.takes_lines is ending.startswith(".jsonl")
        at = 0
        for size in sizes:
            sink.ledger.read("in.jsonl", size)
            lines = b"".join(encode_row(row, Counter()) + b"\n" for row in rows[at : at + size])
            sink.accept_lines(lines, size, {"how": 2})
            at += size
        outcome = sink.close_books("test", {}, [], {})
    single = tmp_path_factory.mktemp("single")
    write_all(single / f"x{ending}", rows, shard_rows=shard_rows)
    assert sink.changes["how"] == 2 * len(sizes)
    assert outcome.rows_out == len(rows)
    assert {p.name: p.read_bytes() for p in blocks.iterdir() if ".manifest." not in p.name} == {
        p.name: p.read_bytes() for p in single.iterdir() if ".manifest." not in p.name
    }


def test_blocks_and_rows_share_the_files_in_their_order(tmp_path):
    with open_sink(tmp_path / "x.jsonl", None, [], 3) as sink:
        sink.ledger.read("a", 5)
        sink.accept(Row("a", 1, {}), {"n": 0})
        sink.accept_lines(b'{"n":1}\n{"n":2}\n{"n":3}\n', 3)
        sink.accept(Row("a", 5, {}), {"n": 4})
        sink.close_books("test", {}, [], {})
    assert [rows_in(tmp_path / f"x-0000{i}.jsonl") for i in range(2)] == [
        [{"n": 0}, {"n": 1}, {"n": 2}], [{"n": 3}, {"n": 4}]
    ]  # fmt: skip


def test_where_no_row_is_kept_blocks_are_counted(tmp_path):
    with open_sink(None, None, []) as sink:
        assert sink.takes_lines
        sink.ledger.read("a", 2)
        sink.accept_lines(b"{}\n{}\n", 2)
        assert sink.close_books("test", {}, [], {}).rows_out == 2


def test_rows_and_blocks_go_to_stdout_in_order(capfdbinary):
    with open_sink("-", None, []) as sink:
        assert sink.takes_lines
        sink.ledger.read("a", 3)
        sink.accept(Row("a", 1, {}), {"n": 0})
        sink.accept_lines(b'{"n":1}\n{"n":2}\n', 2)
        sink.close_books("test", {}, [], {})
    assert capfdbinary.readouterr().out == b'{"n":0}\n{"n":1}\n{"n":2}\n'
    for out in ("-", None):
        with pytest.raises(UsageError, match="shards need files to go to"), open_sink(out, None, [], 3):
            pass


def test_two_sinks_can_share_the_moment_in_which_their_files_appear(tmp_path):
    def write(fail):
        with Together() as both:
            for side in ("train", "val"):
                with open_sink(tmp_path / f"{side}.jsonl", None, [], together=both) as sink:
                    sink.close_books("test", {}, [], {})
                assert not (tmp_path / f"{side}.jsonl").exists()
            if fail:
                raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write(fail=True)
    assert list(tmp_path.iterdir()) == []
    write(fail=False)
    assert (tmp_path / "train.jsonl").exists()
    assert (tmp_path / "val.jsonl").exists()


@pytest.mark.parametrize("shard_rows", [None, 2])
@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".csv", ".parquet"])
def test_rows_go_to_a_store_and_come_back_with_their_manifest(ending, shard_rows):
    store = pytest.importorskip("fsspec").filesystem("memory")
    store.store.clear()
    rows = [{"n": str(n)} for n in range(5)]
    write_all(f"memory://b/x{ending}", [{"n": "old"}] * 9, shard_rows=shard_rows)
    with open_sink(f"memory://b/x{ending}", None, [], shard_rows) as sink:
        for number, row in enumerate(rows):
            sink.ledger.read("a")
            sink.accept(Row("a", number, row), row)
        sink.ledger.read("a")
        sink.reject(BadRow("a", 6, "not JSON", "{"), "", "not JSON")
        outcome = sink.close_books("test", {}, [], {})
    assert rows_in(*outcome.outputs) == rows
    manifest = json.loads(store.cat_file(f"/b/x{ending}.manifest.json"))
    assert outcome.rejects_file == f"memory://b/x{ending}.rejects.jsonl"
    assert {entry["file"] for entry in manifest["outputs"]} == {*outcome.outputs, outcome.rejects_file}
    for entry in manifest["outputs"]:
        content = store.cat_file(entry["file"])
        assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    names = {name.rpartition("/")[2] for name in store.store}
    assert names == {str(e["file"]).rpartition("/")[2] for e in manifest["outputs"]} | {f"x{ending}.manifest.json"}
    write_all(f"memory://b/x{ending}", rows, shard_rows=shard_rows)
    assert not store.exists(f"/b/x{ending}.rejects.jsonl")
    store.store.clear()


@pytest.mark.parametrize(
    ("field", "reason", "expected"),
    [
        ("output", "text belongs here, not a number (42)", "output: text belongs here, not a number"),
        ("messages[3].value", '"asistant" is not a role; known: user', 'messages[].value: "…" is not a role'),
        ("", "not JSON: unexpected end of data at column 7", "not JSON: unexpected end of data"),
        ("", "invalid UTF-8: byte 0xff at offset 12 of the line", "invalid UTF-8"),
        ("", "the row has 3 cells, the header 2", "the row has N cells, the header N"),
    ],
)
def test_reasons_are_counted_by_family(field, reason, expected):
    assert family(field, reason) == expected


def test_what_cannot_be_spelled_is_refused_before_anything_of_it_is_written(tmp_path):
    sink = Sink(None, None, Together())
    written: list[bytes] = []
    sink._write = written.append
    with pytest.raises(RowFault):
        sink.accept(Row("a", 1, {}), {"a": object()})
    assert written == []
    assert sink.ledger.rows_out == 0
    assert sink.accept(Row("a", 1, {}), {"a": 1}) == encode_row({"a": 1}, sink.changes)
