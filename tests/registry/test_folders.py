"""Which files of a folder or a pattern hold rows: nothing is passed over in silence, and nothing goes round and round."""

from __future__ import annotations

import glob
import logging
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import UsageError
from registry.folders import data_files, files_of_folder, files_of_pattern, pattern_matcher


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


def test_a_folder_is_its_data_files_in_sorted_order_without_sidecars(folder):
    folder(
        "d/b.jsonl", "d/a.jsonl", "d/a.jsonl.manifest.json", "d/.hidden.jsonl", "d/a.jsonl.rejects.jsonl", "d/notes.md"
    )
    assert files_of_folder(Path("d")) == ["d/a.jsonl", "d/b.jsonl"]


def test_a_registered_folder_holds_dataset_info_beside_its_rows(folder):
    folder("d/a.json", "d/dataset_info.json", "d/my_dataset_info.json")
    assert files_of_folder(Path("d")) == ["d/a.json", "d/my_dataset_info.json"]


def test_what_datasets_saves_to_disk_is_its_arrow_files(folder):
    folder("d/data-00000-of-00001.arrow", "d/dataset_info.json", "d/state.json")
    assert files_of_folder(Path("d")) == ["d/data-00000-of-00001.arrow"]
    assert data_files(["state.json", "a.json"]) == ["a.json", "state.json"]  # alone it may hold anything


def test_a_folder_of_mixed_kinds_is_refused_with_a_pattern_to_use(folder):
    folder("d/a.jsonl.gz", "d/b.csv")
    with pytest.raises(UsageError) as error:
        files_of_folder(Path("d"))
    assert str(error.value) == (
        "d: the folder mixes kinds of files: jsonl (a.jsonl.gz), csv (b.csv)\n"
        '  Name the files, or use a pattern such as "d/*.jsonl.gz".'
    )


def test_compressed_and_plain_files_of_one_kind_are_one_kind(folder):
    folder("d/a.jsonl.gz", "d/b.jsonl", "d/c.ndjson.zst")
    assert files_of_folder(Path("d")) == ["d/a.jsonl.gz", "d/b.jsonl", "d/c.ndjson.zst"]


def test_a_folder_without_data_says_which_endings_are_known(folder):
    folder("d/notes.md")
    with pytest.raises(UsageError, match=r"holds no data file\n.*\.jsonl .*\.parquet"):
        files_of_folder(Path("d"))


def test_files_further_down_are_not_taken_but_told(folder, caplog):
    folder("d/train/a.jsonl", "d/train/b.jsonl", "d/test/a.jsonl", "d/.git/x.json")
    with pytest.raises(UsageError) as error:
        files_of_folder(Path("d"))
    assert str(error.value) == (
        "d: the folder itself holds no data file, its subfolders do (a.jsonl, a.jsonl, b.jsonl)\n"
        '  Name one of them, or all:  "d/**/*.jsonl"'
    )
    folder("d/a.jsonl")
    with caplog.at_level(logging.WARNING, "tunekit"):
        assert files_of_folder(Path("d")) == ["d/a.jsonl"]
    assert "only the files of the folder itself are read; its subfolders hold 3 data files more" in caplog.text


def test_a_folder_named_like_a_file_is_no_file_but_holds_some(folder):
    folder("out.jsonl/part-0.jsonl", "out.jsonl/part-1.jsonl", "out.jsonl/_SUCCESS")
    assert files_of_folder(Path("out.jsonl")) == ["out.jsonl/part-0.jsonl", "out.jsonl/part-1.jsonl"]
    with pytest.raises(UsageError, match="its subfolders do"):
        files_of_folder(Path())


@pytest.mark.parametrize("what", ["a link that leads nowhere", "a link round and round", "a pipe"])
def test_what_should_hold_rows_and_cannot_be_read_is_refused_not_passed_over(folder, what):
    folder("d/a.jsonl")
    bad = Path("d/b.jsonl")
    if what == "a pipe":
        os.mkfifo(bad)
    else:
        bad.symlink_to("nowhere.jsonl" if "nowhere" in what else "b.jsonl")
    reason = "pipe or a device" if what == "a pipe" else "symbolic link that leads"
    for look in (lambda: files_of_folder(Path("d")), lambda: files_of_pattern("d/*.jsonl")):
        with pytest.raises(UsageError, match=f"^d/b.jsonl: .*{reason}"):
            look()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_listed_is_told(folder):
    folder("d/a.jsonl")
    Path("d").chmod(0)
    try:
        with pytest.raises(UsageError, match="cannot go on listing a folder: Permission denied"):
            files_of_folder(Path("d"))
    finally:
        Path("d").chmod(0o755)


def test_sidecars_are_passed_over_by_patterns_unless_they_are_spelled(folder):
    folder("a.jsonl", "a.jsonl.rejects.jsonl", "a.json", "a.jsonl.manifest.json", "dataset_info.json")
    assert files_of_pattern("*.jsonl") == ["a.jsonl"]
    assert files_of_pattern("*.json") == ["a.json"]
    assert files_of_pattern("*.rejects.jsonl") == ["a.jsonl.rejects.jsonl"]


def test_two_stars_are_any_number_of_folders_and_links_to_folders_are_not_followed(folder):
    here = folder("d/a.jsonl", "d/x/b.jsonl", "d/x/y/c.jsonl", "d/x/c.csv", "d/.h/e.jsonl", "d/x/.f.jsonl")
    Path("d/x/round").symlink_to("..")
    Path("d/x/y/round").symlink_to("../..")
    expected = ["d/a.jsonl", "d/x/b.jsonl", "d/x/y/c.jsonl"]
    assert files_of_pattern("d/**/*.jsonl") == expected
    assert files_of_pattern("d/**") == [*expected[:2], "d/x/c.csv", expected[2]]
    assert files_of_pattern(f"{here}/**/c.*") == [f"{here}/d/x/c.csv", f"{here}/d/x/y/c.jsonl"]
    assert files_of_pattern("**/b.jsonl") == ["d/x/b.jsonl"]


def test_a_pattern_without_a_match_is_refused(folder):
    folder("d/notes.md", "d/.a.jsonl")
    for pattern in ("d/*.jsonl", "d/*", "d/**", "nowhere/**/*.jsonl"):
        with pytest.raises(UsageError, match="no data file matches this pattern"):
            files_of_pattern(pattern)


_name = st.text("ab.", min_size=1, max_size=3).filter(lambda name: not name.startswith("."))
_pattern = st.lists(st.text("ab.*?", min_size=1, max_size=3).filter(lambda p: "**" not in p), min_size=1, max_size=3)


@settings(max_examples=40)
@given(st.lists(st.lists(_name, min_size=1, max_size=3), min_size=1, max_size=6), _pattern)
def test_patterns_mean_what_the_standard_library_takes_them_for(tmp_path_factory, paths, pattern):
    root = tmp_path_factory.mktemp("tree")
    for parts in paths:
        path = root.joinpath(*parts)
        if not any(p.is_file() for p in path.parents) and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    files = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
    matches = pattern_matcher("/".join(pattern))
    visible = {f for f in files if not any(part.startswith(".") for part in f.split("/"))}
    expected = {name for name in glob.glob("/".join(pattern), root_dir=root) if (root / name).is_file()}
    assert {f for f in visible if matches(f)} >= expected & visible
    if not any(part.startswith(".") for part in pattern):
        assert {f for f in visible if matches(f)} == expected


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("data/**", "data/a/b.json", True),
        ("**/train*.json", "train-0.json", True),
        ("**/train*.json", "a/b/train-0.json", True),
        ("*.json", "a/b.json", False),
        ("[!a]x.json", "bx.json", True),
        ("[!a]x.json", "ax.json", False),
        ("a[.json", "a[.json", True),
        ("a+b.json", "a+b.json", True),
    ],
)
def test_patterns_over_paths(pattern, path, expected):
    assert pattern_matcher(pattern)(path) is expected


def test_a_link_to_a_folder_is_not_looked_into(folder, caplog):
    folder("d/a.jsonl")
    Path("d/up").symlink_to("..")
    with caplog.at_level(logging.WARNING, "tunekit"):
        assert files_of_folder(Path("d")) == ["d/a.jsonl"]
    assert not caplog.records
