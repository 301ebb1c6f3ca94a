"""What SRC means: files, folders and globs in sorted order, and the kind of each file."""

import gzip
import io
import sys

import pytest

from registry.errors import UsageError
from registry.sources import container_of, expand_sources, open_binary


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
    ],
)
def test_the_ending_tells_the_kind_and_compression_is_looked_through(name, kind):
    assert container_of(name) == kind


def test_a_folder_is_its_data_files_in_sorted_order_without_sidecars(folder):
    folder("d/b.jsonl", "d/a.jsonl", "d/a.jsonl.manifest.json", "d/.hidden.jsonl", "d/a.rejects.jsonl", "d/notes.md")
    assert expand_sources(["d"]) == ["d/a.jsonl", "d/b.jsonl"]


def test_a_registered_folder_holds_dataset_info_beside_its_rows(folder):
    folder("d/a.json", "d/dataset_info.json")
    assert expand_sources(["d"]) == ["d/a.json"]


def test_sources_keep_the_order_given_and_globs_are_sorted(folder):
    folder("b.jsonl", "a.jsonl", "z/2.csv", "z/10.csv", "a.md")
    assert expand_sources(["b.jsonl", "*.jsonl", "z/*", "-"]) == [
        "b.jsonl", "a.jsonl", "b.jsonl", "z/10.csv", "z/2.csv", "-",
    ]  # fmt: skip


def test_a_folder_of_mixed_kinds_is_refused_with_a_pattern_to_use(folder):
    folder("d/a.jsonl", "d/b.csv")
    with pytest.raises(UsageError) as error:
        expand_sources(["d"])
    assert str(error.value) == (
        "d: the folder mixes kinds of files: jsonl (a.jsonl), csv (b.csv)\n"
        '  Name the files, or use a pattern such as "d/*.jsonl".'
    )


def test_a_folder_without_data_says_which_endings_are_known(folder):
    folder("d/notes.md")
    with pytest.raises(UsageError, match=r"holds no data file\n.*\.jsonl .*\.parquet"):
        expand_sources(["d"])


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
        ("hf://org/name", "remote sources are not read yet"),
        ("notes.md", '".md" is not a kind of file that is read here'),
    ],
)
def test_what_cannot_be_read_is_refused(folder, source, reason):
    folder("notes.md")
    with pytest.raises(UsageError, match=reason.replace(".", r"\.")):
        expand_sources([source])


def test_compressed_files_open_as_their_content(tmp_path):
    import pyarrow as pa

    (tmp_path / "a.txt").write_bytes(b"one\ntwo\n")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\ntwo\n"))
    with pa.CompressedOutputStream(str(tmp_path / "a.txt.zst"), "zstd") as out:
        out.write(b"one\ntwo\n")
    for name in ("a.txt", "a.txt.gz", "a.txt.zst"):
        with open_binary(str(tmp_path / name)) as handle:
            assert handle.read() == b"one\ntwo\n"


def test_a_dash_is_stdin(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"rows")))
    assert open_binary("-").read() == b"rows"


def test_a_file_that_may_not_be_opened_is_a_matter_of_the_path(tmp_path):
    with pytest.raises(UsageError, match="cannot go on opening a source: No such file"):
        open_binary(str(tmp_path / "gone.jsonl"))
