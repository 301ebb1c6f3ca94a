"""Sources and entries that are no plain files or texts: refused with a reason, where reading them would hang or fail."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from registry.datasets import find_entry, write_entry
from registry.errors import Faults, UsageError
from registry.sources import expand_sources


def test_a_pipe_is_refused_as_its_hash_could_never_be_taken(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(UsageError, match="this is a pipe or a device"):
        expand_sources([tmp_path / "rows.jsonl"])


@pytest.mark.parametrize(
    ("file_name", "fault"),
    [(3, '"file_name" must be text, not 3'), (["x"], '"file_name" must be text'), ("", "it names no place")],
)
def test_a_file_name_that_is_none_is_a_fault_of_the_entry(tmp_path: Path, file_name: Any, fault: str) -> None:
    import orjson

    (tmp_path / "dataset_info.json").write_bytes(orjson.dumps({"a": {"file_name": file_name}}))
    with pytest.raises(Faults, match=fault):
        find_entry("a", tmp_path)


@pytest.mark.parametrize("entry", [("a\udcff", "rows.jsonl"), ("a", "rows\udcff.jsonl")])
def test_names_that_json_cannot_hold_are_refused_and_the_file_stays(tmp_path: Path, entry: tuple[str, str]) -> None:
    write_entry("old", {"file_name": "old.jsonl"}, tmp_path)
    before = (tmp_path / "dataset_info.json").read_bytes()
    with pytest.raises(UsageError, match="JSON cannot hold this entry"):
        write_entry(entry[0], {"file_name": entry[1]}, tmp_path)
    assert (tmp_path / "dataset_info.json").read_bytes() == before
