"""Several files get their names at one moment, or none does; in a store, each object appears whole."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from datakit.together import Together
from registry.errors import Interrupted, UsageError
from registry.remote import cloud

NAMES = ["a.jsonl", "b.jsonl", "a.jsonl.manifest.json"]


def contents(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in folder.iterdir()}


def write_all(files: Together, folder: Path) -> None:
    for name in NAMES:
        files.open(str(folder / name)).write(b"new")


def test_files_have_no_name_before_the_end_and_all_have_theirs_then(tmp_path):
    with Together() as files:
        write_all(files, tmp_path)
        assert all(name.startswith(".") for name in contents(tmp_path))
        assert str(tmp_path / "a.jsonl") in files
    assert contents(tmp_path) == dict.fromkeys(NAMES, "new")


def test_a_block_that_ends_badly_leaves_everything_as_it_was(tmp_path):
    (tmp_path / "a.jsonl").write_text("old")

    def fail():
        with Together() as files:
            write_all(files, tmp_path)
            files.remove(str(tmp_path / "a.jsonl"))
            raise Interrupted

    with pytest.raises(Interrupted):
        fail()
    assert contents(tmp_path) == {"a.jsonl": "old"}


@pytest.mark.parametrize("links", [True, False], ids=["with hard links", "without"])
@pytest.mark.parametrize("at", range(4))
def test_a_failure_between_two_names_takes_the_first_ones_back(tmp_path, monkeypatch, at, links):
    before = {"a.jsonl": "old", "c.jsonl": "stale", "a.jsonl.manifest.json": "old"}
    for name, text in before.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "a.jsonl").chmod(0o600)
    real, calls = os.replace, []

    def replace(source, target):
        calls.append(target)
        if len(calls) == at + 1:
            raise OSError(5, "Input/output error")
        real(source, target)

    def link(*_, **__):
        raise OSError(1, "Operation not permitted")

    def commit():
        with Together() as files:
            write_all(files, tmp_path)
            files.remove(str(tmp_path / "c.jsonl"))
            monkeypatch.setattr(os, "replace", replace)
            if not links:
                monkeypatch.setattr(os, "link", link)

    with pytest.raises(OSError, match="Input/output"):
        commit()
    left = contents(tmp_path)
    assert not [name for name in left if name.startswith(".")]
    if links:
        assert left == before
        assert (tmp_path / "a.jsonl").stat().st_mode & 0o777 == 0o600
    else:  # what cannot be kept cannot be put back, and is new as a whole
        assert left == before | ({"a.jsonl": "new"} if at else {})


def test_removals_come_before_the_last_name_so_that_an_old_manifest_still_lists_what_is_left(tmp_path, monkeypatch):
    (tmp_path / "old.jsonl").write_text("stale")
    order = []
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append(Path(a if "old" in str(a) else b).name), real(a, b)))
    with Together() as files:
        write_all(files, tmp_path)
        files.remove(str(tmp_path / "old.jsonl"))
        files.remove(str(tmp_path / "never.jsonl"))
    assert order == ["a.jsonl", "b.jsonl", "old.jsonl", "a.jsonl.manifest.json"]
    assert contents(tmp_path) == dict.fromkeys(NAMES, "new")


def test_a_settled_file_is_closed_and_described_before_it_has_its_name(tmp_path):
    target = str(tmp_path / "a.jsonl")
    with Together() as files:
        handle = files.open(target)
        handle.write(b"new")
        files.settle(target)
        files.settle(target)
        assert handle.closed
        assert files.describe(target) == {"file": target, "bytes": 3, "sha256": hashlib.sha256(b"new").hexdigest()}


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "real.txt").write_text("kept")
    (tmp_path / "a.jsonl").symlink_to("real.txt")
    with Together() as files:
        files.open(str(tmp_path / "a.jsonl")).write(b"new")
    assert contents(tmp_path) == {"real.txt": "kept", "a.jsonl": "new"}


def test_a_link_that_was_replaced_is_a_link_again_where_the_rest_fails(tmp_path, monkeypatch):
    (tmp_path / "real.txt").write_text("kept")
    (tmp_path / "a.jsonl").symlink_to("real.txt")
    (tmp_path / "b.jsonl").mkdir()  # which no file can replace

    def commit():
        with Together() as files:
            files.open(str(tmp_path / "a.jsonl")).write(b"new")
            files.open(str(tmp_path / "b.jsonl")).write(b"new")

    with pytest.raises(OSError, match=r"Is a directory|Operation not permitted"):
        commit()
    assert (tmp_path / "a.jsonl").readlink() == Path("real.txt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl", "real.txt"]


def test_a_place_that_cannot_be_written_is_told_by_the_name_that_people_know(tmp_path):
    (tmp_path / "d").mkdir()
    target = tmp_path / "d" / ("x" * 240 + ".jsonl")
    with pytest.raises(OSError, match="File name too long") as error:
        Together().open(str(target))
    assert error.value.filename == str(target)


class TestInAStore:
    @pytest.fixture(autouse=True)
    def memory(self):
        fsspec = pytest.importorskip("fsspec")
        self.store = fsspec.filesystem("memory")
        self.store.store.clear()
        yield
        self.store.store.clear()

    def contents(self):
        return {name: file.getvalue() for name, file in self.store.store.items()}

    def test_objects_appear_whole_at_the_end(self):
        with Together() as files:
            for name in NAMES:
                files.open(f"memory://out/{name}").write(b"new")
            files.settle("memory://out/a.jsonl")
            assert files.describe("memory://out/a.jsonl") == {
                "file": "memory://out/a.jsonl", "bytes": 3, "sha256": hashlib.sha256(b"new").hexdigest()
            }  # fmt: skip
            assert self.contents() == {}
        assert self.contents() == {f"/out/{name}": b"new" for name in NAMES}

    def test_a_block_that_ends_badly_leaves_the_store_as_it_was(self, monkeypatch):
        self.store.pipe_file("/out/a.jsonl", b"old")
        discarded = []
        monkeypatch.setattr(
            "fsspec.implementations.memory.MemoryFile.discard", lambda file: discarded.append(file.path), raising=False
        )

        def fail():
            with Together() as files:
                files.open("memory://out/a.jsonl").write(b"new")
                files.remove("memory://out/a.jsonl")
                raise Interrupted

        with pytest.raises(Interrupted):
            fail()
        assert self.contents() == {"/out/a.jsonl": b"old"}
        assert discarded == ["/out/a.jsonl"]  # a store would keep, and charge for, what was uploaded of it
        with Together() as files:  # the next one is not caught in the transaction of the one that failed
            files.open("memory://out/a.jsonl").write(b"new")
        assert self.contents() == {"/out/a.jsonl": b"new"}

    def test_what_is_removed_goes_after_the_rest_is_there(self):
        self.store.pipe_file("/out/old.jsonl", b"old")
        with Together() as files:
            files.open("memory://out/a.jsonl").write(b"new")
            files.remove("memory://out/old.jsonl")
            files.remove("memory://out/never.jsonl")
        assert self.contents() == {"/out/a.jsonl": b"new"}

    def test_a_store_that_fails_takes_the_local_files_back(self, tmp_path, monkeypatch):
        (tmp_path / "r.jsonl").write_text("old")

        def fail(self):
            raise RuntimeError("the bucket is gone")

        def commit():
            with Together() as files:
                files.open("memory://out/a.jsonl").write(b"new")
                files.open(str(tmp_path / "r.jsonl")).write(b"new")
                monkeypatch.setattr("fsspec.implementations.memory.MemoryFile.commit", fail)

        with pytest.raises(UsageError, match="cannot go on writing: RuntimeError: the bucket is gone"):
            commit()
        assert contents(tmp_path) == {"r.jsonl": "old"}
        assert self.contents() == {}

    def test_a_store_that_refuses_a_block_is_told_with_the_place(self, monkeypatch):
        def fail(self, data):
            raise ValueError("quota exceeded")

        monkeypatch.setattr("fsspec.implementations.memory.MemoryFile.write", fail)
        with (
            pytest.raises(UsageError, match=r"^memory://out/a.jsonl: cannot go on writing: ValueError: quota"),
            Together() as files,
        ):
            files.open("memory://out/a.jsonl").write(b"new")
        assert cloud.filesystem("memory://x")[0]._intrans is False
