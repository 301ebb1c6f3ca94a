"""Files and folders appear whole or not at all; what was there before survives every failure."""

import errno
import os
from pathlib import Path

import pytest

import registry.atomic
from registry.atomic import atomic_file, atomic_folder, temporary_name, write_json
from registry.errors import Interrupted


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def write_half_a_file(target, failure):
    with atomic_file(target, "w") as handle:
        handle.write("half")
        raise failure


def write_a_folder(target, then):
    with atomic_folder(target) as folder:
        (folder / "new.bin").write_text("new")
        then()


def disk_full(*ignored):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_appears_only_when_its_block_has_ended(tmp_path):
    with atomic_file(tmp_path / "new" / "out.txt", "w") as handle:
        handle.write("whole")
        assert not (tmp_path / "new" / "out.txt").exists()
    assert (tmp_path / "new" / "out.txt").read_text() == "whole"
    assert names(tmp_path / "new") == ["out.txt"]


@pytest.mark.parametrize("failure", [ValueError, Interrupted, KeyboardInterrupt])
def test_a_failure_in_the_block_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    (tmp_path / "out.txt").write_text("old")
    with pytest.raises(failure):
        write_half_a_file(tmp_path / "out.txt", failure)
    assert (tmp_path / "out.txt").read_text() == "old"
    assert names(tmp_path) == ["out.txt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call):
    (tmp_path / "out.txt").write_text("old")
    monkeypatch.setattr(registry.atomic.os, call, disk_full)
    with pytest.raises(OSError, match="No space left"), atomic_file(tmp_path / "out.txt", "w") as handle:
        handle.write("new")
    assert (tmp_path / "out.txt").read_text() == "old"
    assert names(tmp_path) == ["out.txt"]


def test_a_full_disk_leaves_nothing_where_nothing_was(tmp_path, monkeypatch):
    monkeypatch.setattr(registry.atomic.os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        write_json(tmp_path / "out.json", {"a": 1})
    assert names(tmp_path) == []


def test_a_folder_takes_the_place_of_the_older_one_whole(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old.bin").write_text("old")
    with atomic_folder(tmp_path / "model") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "new.bin").write_text("new")
        assert names(tmp_path / "model") == ["old.bin"]
    assert names(tmp_path / "model") == ["deep"]
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("failing", ["block", "fsync"])
def test_a_failure_leaves_the_older_folder(tmp_path, monkeypatch, failing):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old.bin").write_text("old")
    if failing == "fsync":
        monkeypatch.setattr(registry.atomic.os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        write_a_folder(tmp_path / "model", disk_full if failing == "block" else list)
    assert names(tmp_path) == ["model"]
    assert names(tmp_path / "model") == ["old.bin"]


def test_an_interruption_between_the_two_renames_puts_the_older_folder_back(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old.bin").write_text("old")
    replace, calls = os.replace, []

    def interrupted_the_second_time(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise Interrupted
        replace(source, target)

    monkeypatch.setattr(registry.atomic.os, "replace", interrupted_the_second_time)
    with pytest.raises(Interrupted), atomic_folder(tmp_path / "model") as folder:
        (folder / "new.bin").write_text("new")
    assert names(tmp_path) == ["model"]
    assert names(tmp_path / "model") == ["old.bin"]


def test_temporary_names_are_hidden_beside_the_target_and_differ():
    first, second = temporary_name(Path("a/out.txt")), temporary_name(Path("a/out.txt"))
    assert first != second
    assert first.parent == Path("a")
    assert first.name.startswith(".out.txt.tmp-")


def test_json_keeps_order_and_is_readable(tmp_path):
    write_json(tmp_path / "a.json", {"b": "你", "a": [1]})
    assert (tmp_path / "a.json").read_text("utf-8") == '{\n  "b": "你",\n  "a": [\n    1\n  ]\n}\n'
    write_json(tmp_path / "a.json", {"b": 1, "a": 2}, sort_keys=True)
    assert (tmp_path / "a.json").read_text() == '{\n  "a": 2,\n  "b": 1\n}\n'
