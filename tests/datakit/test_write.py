"""Where rows go: every container, whole or not at all, with a manifest that tells the truth about the files."""

from __future__ import annotations

import errno
import hashlib
import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datakit.values import encode_row
from datakit.write import Sink, check_target, family, open_sink
from registry.atomic import TEMPORARY_MARK
from registry.errors import RowFault, UsageError
from registry.rows import BadRow, Row, read_rows

ROWS = [{"text": 'Grüße, "du"\n', "n": "1"}, {"text": "\tb", "n": "2"}]


def write_all(out, rows, rejects=None):
    with open_sink(out, rejects, []) as sink:
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


def test_targets_that_cannot_be_are_refused_with_the_way_out(tmp_path):
    with pytest.raises(UsageError, match="this is a folder"):
        check_target(tmp_path, [])
    with pytest.raises(UsageError, match=r'Did you mean ".parquet"'):
        check_target(tmp_path / "o.parqet", [])
    with pytest.raises(UsageError, match="not a kind of file that is written here"):
        check_target(tmp_path / "o.parquet.gz", [])


def test_a_source_is_never_overwritten_by_whatever_name_it_goes(tmp_path):
    source = tmp_path / "a.jsonl"
    source.write_text("{}\n")
    (tmp_path / "link.jsonl").symlink_to(source)
    with pytest.raises(UsageError, match="one of the sources"):
        check_target(tmp_path / "link.jsonl", [str(source)])


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
    sink = Sink(None, None)
    written: list[bytes] = []
    sink._write = written.append
    with pytest.raises(RowFault):
        sink.accept(Row("a", 1, {}), {"a": object()})
    assert written == []
    assert sink.ledger.rows_out == 0
    assert sink.accept(Row("a", 1, {}), {"a": 1}) == encode_row({"a": 1}, sink.changes)
