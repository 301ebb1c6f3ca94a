"""The cache as its owner sees it: what it holds, and making room."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from registry.encoded.build import JOURNAL, LOCK
from trainkit.cache import chosen, list_cache, remove

Run = Callable[..., Any]


@pytest.fixture
def cache(trainkit: Run, config_file: Run, tmp_path: Path) -> Path:
    """A cache with the rows of one dataset, encoded for sft and for dpo's pairs."""
    root = tmp_path / "cache"
    trainkit("encode", config_file(cache_path=str(root)), "-o", "a.jsonl", "-q")
    trainkit("encode", config_file(cache_path=str(root), stage="dpo", dataset="pairs"), "-o", "b.jsonl", "-q")
    return root


def test_it_tells_what_it_holds(cache: Path) -> None:
    found = {entry.dataset: entry for entry in list_cache(cache)}
    assert {name: (entry.kind, entry.rows, entry.complete) for name, entry in found.items()} == {
        "questions": ("turns", 24, True),
        "pairs": ("pair", 12, True),
    }
    assert all(entry.tokens * 4 < entry.bytes and entry.days < 1 for entry in found.values())
    assert found["pairs"].files[0].endswith("pairs.jsonl")


def test_entries_are_chosen_by_key_by_age_or_all(cache: Path) -> None:
    first, second = list_cache(cache)
    old = time.time() - 10 * 86_400
    os.utime(cache / second.key / JOURNAL, (old, old))
    entries = list_cache(cache)
    assert [e.key for e in chosen(entries, older_than=9)] == [second.key]
    assert [e.key for e in chosen(entries, keys=[first.key[:8]])] == [first.key]
    assert len(chosen(entries, everything=True)) == 2
    assert chosen(entries) == []


def test_what_is_used_again_is_young_again(trainkit: Run, config_file: Run, cache: Path) -> None:
    for entry in list_cache(cache):
        os.utime(cache / entry.key / JOURNAL, (1e9, 1e9))
    trainkit("encode", config_file(cache_path=str(cache)), "-o", "a.jsonl", "-q")
    assert [entry.days < 1 for entry in list_cache(cache)] == [True, False]


def test_rows_that_are_being_encoded_stay(cache: Path) -> None:
    entries = list_cache(cache)
    with FileLock(cache / entries[0].key / LOCK):
        freed, busy = remove(cache, entries)
    assert (freed, busy) == (entries[1].bytes, [entries[0].key])
    assert [entry.key for entry in list_cache(cache)] == busy


def test_the_command_lists_and_removes(trainkit: Run, cache: Path) -> None:
    told = trainkit("cache", "--folder", cache)
    assert told.code == 0
    assert "questions" in told.out
    assert str(cache) in told.out
    assert len(trainkit("cache", "--folder", cache, "--json").json["entries"]) == 2
    ran = trainkit("cache", "--folder", cache, "--remove", "ffffffffffff")
    assert (ran.code, "no entry's key begins so" in ran.err) == (2, True)
    trainkit("cache", "--folder", cache, "--remove-all", "-q")
    assert json.loads(trainkit("cache", "--folder", cache, "--json").out)["entries"] == []
    assert trainkit("cache", "--folder", cache).out == f"nothing is cached in {cache}\n"
