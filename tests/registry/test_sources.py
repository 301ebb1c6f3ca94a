"""What SRC means: files, folders and globs in sorted order, the kind of each file, and the bytes behind it."""

from __future__ import annotations

import gzip
import io
import logging
import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.errors import UsageError
from registry.rows import Row, read_rows
from registry.sources import check_sources, container_of, expand_sources, local_path, open_binary, open_seekable

not_as_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")


def zstd(data: bytes) -> bytes:
    return pa.Codec("zstd").compress(data, asbytes=True)


SKIPPABLE = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"  # a frame that holds no data, as pzstd writes


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the files named by each test."""
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("{}\n")
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl", "jsonl"),
        ("a.ndjson", "jsonl"),
        ("a.JSON", "json"),
        ("a.csv.gz", "csv"),
        ("a.parquet", "parquet"),
        ("a.v2.tsv.zst", "tsv"),
        ("a.arrow", "arrow"),
        ("a.txt", "txt"),
        ("a.gz", None),
        ("a.docx", None),
        ("s3://bucket/key.v1/a.jsonl.gz", "jsonl"),
        ("s3://bucket.json/a", None),
    ],
)
def test_the_ending_tells_the_kind_and_compression_is_looked_through(name, kind):
    assert container_of(name) == kind


def test_sources_keep_the_order_given_and_globs_are_sorted(folder):
    folder("b.jsonl", "a.jsonl", "z/2.csv", "z/10.csv", "a.md")
    assert expand_sources(["b.jsonl", "*.jsonl", "z/*", "-"]) == [
        "b.jsonl", "a.jsonl", "b.jsonl", "z/10.csv", "z/2.csv", "-",
    ]  # fmt: skip


def test_a_missing_file_names_what_lies_near_it(folder):
    folder("train.jsonl", "other.csv")
    with pytest.raises(UsageError) as error:
        expand_sources(["trian.jsonl"])
    assert str(error.value) == "trian.jsonl: no such file or folder\n  Near it: train.jsonl"
    with pytest.raises(UsageError, match="The folder nowhere does not exist either"):
        expand_sources(["nowhere/a.jsonl"])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("*.jsonl", "no data file matches this pattern"),
        ("notes.md", '".md" is not a kind of file that is read here'),
        ("", "a source has an empty name"),
        ("wat://bucket/a.jsonl", "Protocol not known: wat"),
    ],
)
def test_what_cannot_be_read_is_refused(folder, source, reason):
    folder("notes.md")
    for look in (expand_sources, check_sources):
        with pytest.raises(UsageError, match=reason.replace(".", r"\.")):
            look([source])


def test_a_name_with_the_signs_of_a_pattern_is_that_file_where_there_is_one(folder):
    folder("a[1].jsonl", "a1.jsonl", "*.csv", "b.csv")
    assert expand_sources(["a[1].jsonl", "*.csv"]) == ["a[1].jsonl", "*.csv"]


def test_a_file_that_is_named_twice_is_told_also_by_way_of_a_link(folder, caplog):
    folder("a.jsonl")
    Path("b.jsonl").symlink_to("a.jsonl")
    with caplog.at_level(logging.WARNING, "tunekit"):
        assert expand_sources(["a.jsonl", "./a.jsonl", "b.jsonl"]) == ["a.jsonl", "./a.jsonl", "b.jsonl"]
    assert [r.getMessage() for r in caplog.records] == [
        "a.jsonl is named 3 times (a.jsonl, ./a.jsonl, b.jsonl), and its rows are read each time"
    ]
    caplog.clear()
    expand_sources(["a.jsonl", "a.jsonl"], warn=False)
    assert not caplog.records


def test_stdin_can_be_named_once_only():
    with pytest.raises(UsageError, match="stdin can be read once only"):
        expand_sources(["-", "-"])


def test_an_address_that_came_as_a_path_is_read_as_the_address(monkeypatch):
    with pytest.raises(UsageError, match=r"^wat://bucket/a.jsonl: Protocol not known"):
        expand_sources([Path("wat://bucket/a.jsonl")])


def test_a_file_address_is_the_path_in_it(folder):
    here = folder("a b.jsonl")
    assert expand_sources([f"file://{here}/a b.jsonl"]) == [f"{here}/a b.jsonl"]


def test_a_symbolic_link_that_leads_nowhere_or_round_is_told_from_a_missing_file(folder):
    folder("d/a.jsonl")
    Path("round.jsonl").symlink_to("round.jsonl")
    Path("gone.jsonl").symlink_to("missing.jsonl")
    with pytest.raises(UsageError, match=r"^round.jsonl: this is a symbolic link that leads back to itself"):
        expand_sources(["round.jsonl"])
    with pytest.raises(UsageError, match=r"leads to missing.jsonl, which does not exist"):
        expand_sources(["gone.jsonl"])


@not_as_root
def test_a_file_that_may_not_be_read_is_told_before_any_row_passes(folder):
    folder("a.jsonl")
    Path("a.jsonl").chmod(0)
    with pytest.raises(UsageError, match=r"^a.jsonl: no permission to read this file"):
        expand_sources(["a.jsonl"])


def test_names_that_are_no_utf_8_are_read_like_others(tmp_path):
    name = os.fsdecode(b"caf\xe9.jsonl")
    (tmp_path / name).write_text('{"a": 1}\n')
    assert expand_sources([tmp_path]) == [str(tmp_path / name)]
    assert [row.data for row in read_rows([tmp_path / name]) if isinstance(row, Row)] == [{"a": 1}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b"one\ntwo\n"),
        ("a.txt.gz", gzip.compress(b"one\n") + gzip.compress(b"two\n")),
        ("a.txt.gz", gzip.compress(b"one\ntwo\n") + bytes(512)),  # a tape's padding
        ("a.txt.zst", zstd(b"one\n") + zstd(b"two\n")),
        ("a.txt.zst", SKIPPABLE + zstd(b"one\n") + SKIPPABLE + zstd(b"two\n")),
    ],
    ids=["plain", "gzip of two members", "padded gzip", "zstd of two frames", "zstd with skippable frames"],
)
def test_compressed_files_open_as_all_of_their_content(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with open_binary(str(tmp_path / name)) as handle:
        assert handle.read() == b"one\ntwo\n"


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), st.sampled_from([".gz", ".zst"]))
def test_members_and_frames_are_read_one_after_the_other(tmp_path, pieces, ending):
    pack = gzip.compress if ending == ".gz" else zstd
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(b"".join(map(pack, pieces)))
    with open_binary(str(path)) as handle:
        assert handle.read() == b"".join(pieces)


@pytest.mark.parametrize("cut", [1, 5, 11])
@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_compressed_file_that_is_cut_off_is_refused_though_its_first_part_is_whole(tmp_path, ending, cut):
    pack = gzip.compress if ending == ".gz" else zstd
    path = tmp_path / f"a.jsonl{ending}"
    path.write_bytes(pack(b'{"a": 1}\n') + pack(b'{"a": 2}\n' * 20)[:-cut])
    with pytest.raises(UsageError, match="the compressed file is cut off or damaged"):
        list(read_rows([path]))


def test_what_is_compressed_is_read_though_its_name_does_not_say_so(tmp_path, caplog):
    (tmp_path / "a.jsonl").write_bytes(gzip.compress(b'{"a": 1}\n'))
    with caplog.at_level(logging.WARNING, "tunekit"):
        assert [row.data for row in read_rows([tmp_path / "a.jsonl"]) if isinstance(row, Row)] == [{"a": 1}]
    assert "is compressed (.gz), though its name does not say so" in caplog.text


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_what_is_named_as_compressed_and_is_not_is_told(tmp_path, ending):
    (tmp_path / f"a.jsonl{ending}").write_bytes(b'{"a": 1}\n')
    with pytest.raises(UsageError, match=f"this is named {ending} and is not compressed so"):
        open_binary(str(tmp_path / f"a.jsonl{ending}"))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd], ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize("buffered", [True, False], ids=["a pipe", "bytes"])
def test_a_dash_is_stdin_compressed_or_not(monkeypatch, pack, buffered):
    raw = io.BytesIO(pack(b'{"a": 1}\n'))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(raw) if buffered else raw))
    assert open_binary("-").read() == b'{"a": 1}\n'


def test_a_closed_stdin_is_told(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="stdin is closed"):
        open_binary("-")


def test_a_file_that_may_not_be_opened_is_a_matter_of_the_path(tmp_path):
    with pytest.raises(UsageError, match="cannot go on opening a source: No such file"):
        open_binary(str(tmp_path / "gone.jsonl"))


def test_a_table_that_is_compressed_as_a_whole_is_unpacked_to_be_read(tmp_path):
    table = io.BytesIO()
    pq.write_table(pa.table({"a": [1, None, 2**53 + 1]}), table)
    for name, content in (("a.parquet.gz", gzip.compress(table.getvalue())), ("b.parquet", table.getvalue())):
        (tmp_path / name).write_bytes(content)
    rows = [row.data["a"] for row in read_rows([tmp_path]) if isinstance(row, Row)]
    assert rows == [1, None, 2**53 + 1] * 2
    assert open_seekable(str(tmp_path / "b.parquet")) == str(tmp_path / "b.parquet")


def test_where_the_bytes_of_a_file_lie(tmp_path):
    assert local_path("a.jsonl") == "a.jsonl"
    assert local_path("-") is None
    assert local_path("memory://a.jsonl") is None
