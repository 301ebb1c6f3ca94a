"""What an output is called: its shards, its manifest and its rejects, and the names that are refused."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakit.targets import check_target, target_of
from registry.errors import UsageError


@pytest.mark.parametrize(
    ("out", "first", "eleventh", "manifest"),
    [
        ("part-{:05d}.jsonl", "part-00000.jsonl", "part-00010.jsonl", "part.jsonl.manifest.json"),
        ("rows.jsonl", "rows-00000.jsonl", "rows-00010.jsonl", "rows.jsonl.manifest.json"),
        ("d.v1/rows.jsonl.zst", "d.v1/rows-00000.jsonl.zst", "d.v1/rows-00010.jsonl.zst", "d.v1/rows.jsonl.zst.manifest.json"),
        ("d/part_{}.parquet", "d/part_00000.parquet", "d/part_00010.parquet", "d/part.parquet.manifest.json"),
        ("d/{:d}.csv.gz", "d/0.csv.gz", "d/10.csv.gz", "d/shards.csv.gz.manifest.json"),
        ("{i:03d}-of-many.json", "000-of-many.json", "010-of-many.json", "of-many.json.manifest.json"),
        ("s3://b/k/x-{:02d}.jsonl", "s3://b/k/x-00.jsonl", "s3://b/k/x-10.jsonl", "s3://b/k/x.jsonl.manifest.json"),
    ],
)  # fmt: skip
def test_shards_are_numbered_and_have_one_manifest(out, first, eleventh, manifest):
    target = target_of(out, [], 100)
    names = list(islice(target.files(), 11))
    assert (names[0], names[10], target.manifest) == (first, eleventh, manifest)
    assert target.rejects == manifest.replace(".manifest.json", ".rejects.jsonl")
    assert all(target.owns(name) for name in names)


def test_without_shards_an_output_is_one_file():
    target = target_of("rows.jsonl", [])
    assert list(target.files()) == ["rows.jsonl"]
    assert not target.owns("rows-00000.jsonl")


@given(st.integers(0, 10**7), st.sampled_from(["x-{:05d}.jsonl", "{:03d}.csv", "a/b.parquet", "n{:d}.json"]))
def test_a_shard_is_known_by_its_name_and_by_no_other(number, out):
    target = target_of(out, [], 1)
    name = next(islice(target.files(), min(number, 50), None))
    assert target.owns(name)
    assert target.holds_shard(name)
    assert not target.owns(name + "x")
    assert not target.owns("z" + name)


def test_a_shard_is_known_from_wherever_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = target_of("d/x.jsonl", [], 5)
    assert target.owns(f"{tmp_path}/d/x-00003.jsonl")
    assert target.owns("./d/x-00003.jsonl")
    assert not target.owns("e/x-00003.jsonl")
    assert not target.owns("d/x-3.jsonl")


@pytest.mark.parametrize(
    ("out", "shard_rows", "reason"),
    [
        ("x-{:05d}.jsonl", None, r"nothing says how many rows a file gets\n  Add  --shard-rows N"),
        ("x-{:05d}-{}.jsonl", 5, "several places for a number"),
        ("d-{:05d}/x.jsonl", 5, "the number belongs into the file's name"),
        ("x.jsonl", 0, "a shard holds at least one row"),
        ("x-{:05d}.docx", 5, "not a kind of file that is written here"),
        ("x.parqet", None, r'Did you mean ".parquet"'),
        ("x.parquet.gz", None, "not a kind of file that is written here"),
        ("x", None, r"the name has no ending, which would tell what kind of file to write\n  Known endings: .jsonl"),
        ("s3://b/k/", None, "this is a folder, a file is needed"),
        ("hf://org/name/a.jsonl", None, "nothing is written there"),
        ("https://host/a.jsonl", None, "nothing is written there"),
    ],
)
def test_targets_that_cannot_be_are_refused_with_the_way_out(out, shard_rows, reason):
    with pytest.raises(UsageError, match=reason):
        target_of(out, [], shard_rows)


def test_a_folder_is_no_target(tmp_path):
    with pytest.raises(UsageError, match="this is a folder"):
        check_target(tmp_path, [])


def test_a_source_is_never_overwritten_by_whatever_name_it_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "a-00001.jsonl"
    source.write_text("{}\n")
    (tmp_path / "link.jsonl").symlink_to(source)
    with pytest.raises(UsageError, match="one of the sources"):
        check_target(tmp_path / "link.jsonl", [str(source)])
    with pytest.raises(UsageError, match=r"a-00001.jsonl: one of the sources is named as the shards are"):
        target_of("a.jsonl", [str(source)], 5)
    with pytest.raises(UsageError, match="one of the sources"):
        target_of("s3://b/a.jsonl", ["s3://b/a.jsonl"])
    with pytest.raises(UsageError, match=r"b.jsonl.manifest.json: one of the sources is named as the manifest is"):
        target_of("b.jsonl", [str(tmp_path / "b.jsonl.manifest.json")])


def test_nothing_is_written_below_a_file(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(UsageError, match=r"a is a file, so nothing can be written below it"):
        target_of(tmp_path / "a" / "b" / "c.jsonl", [])


def test_a_file_address_is_a_path():
    assert target_of("file:///tmp/x.jsonl", []).name == "/tmp/x.jsonl"
    assert target_of(Path("s3://b/x.jsonl"), []).name == "s3://b/x.jsonl"
    assert target_of(Path("x.jsonl"), []).scratch == Path()
    assert target_of("s3://b/x.jsonl", []).scratch is None
