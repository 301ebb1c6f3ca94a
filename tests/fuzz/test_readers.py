"""Any bytes under any name: the readers, convert and validate refuse them in words or lose no row."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.rows import BadRow, Row
from tests.fuzz.promises import (
    converting_keeps_its_promises,
    reading_keeps_its_promises,
    validating_keeps_its_promises,
)
from tests.fuzz.seeds import ROWS, seeds

TEXTS = ["a.jsonl", "a.json", "b.json", "a.csv", "a.tsv", "a.txt", "a.jsonl.gz", "a.jsonl.zst"]
# pyarrow ends the whole process on some damage that it does not look for; so these examples are the same in every run.
TABLES = ["a.parquet", "b.parquet", "a.arrow", "b.arrow"]
SIGNS = st.sampled_from(
    [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r", b"\x00", b"\xff", b"\xef\xbb\xbf"]
)
WORDS = st.sampled_from(
    [b"null", b"1e999", b"NaN", b'{"', b'"}\n', b"[[[[", b"\\ud800", b"\\u0000", b"9" * 30, b"\xed\xa0\x80"]
)
EDIT = st.tuples(st.floats(0, 1), st.integers(0, 12), SIGNS | WORDS | st.binary(max_size=8))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
ROLES = st.sampled_from(
    ["human", "gpt", "user", "assistant", "system", "tool", "function_call", "observation", "", "x"]
)
TURN = (
    st.fixed_dictionaries({"from": ROLES, "value": JSON})
    | st.fixed_dictionaries({"role": ROLES, "content": JSON})
    | JSON
)
FIELDS = st.sampled_from(
    [
        "instruction",
        "input",
        "output",
        "history",
        "system",
        "tools",
        "chosen",
        "rejected",
        "kto_tag",
        "text",
        "id",
        "images",
    ]
)
ROW = (
    st.dictionaries(FIELDS, JSON, max_size=6)
    | st.fixed_dictionaries(
        {"conversations": st.lists(TURN, max_size=4) | JSON}, optional={"tools": JSON, "system": JSON}
    )
    | st.fixed_dictionaries({"messages": st.lists(TURN, max_size=4) | JSON}, optional={"tools": JSON, "id": JSON})
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Path:
    """A quiet place."""
    caplog.set_level(logging.CRITICAL, "tunekit")
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    return tmp_path


def edited(data: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """``data`` with pieces taken out and others put in, each at a share of its length."""
    for place, length, piece in edits:
        at = int(place * len(data))
        data = data[:at] + piece + data[at + length :]
    return data


def keeps_all_promises(path: Path) -> list[Row | BadRow]:
    found = reading_keeps_its_promises(path)
    converting_keeps_its_promises(path)
    validating_keeps_its_promises(path)
    return found


@pytest.mark.parametrize("name", TEXTS)
@settings(max_examples=15, suppress_health_check=["function_scoped_fixture"])  # type: ignore[list-item]
@given(data=st.binary(max_size=200))
def test_any_bytes(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)
    keeps_all_promises(folder / name)


@pytest.mark.parametrize("name", TEXTS)
@settings(max_examples=25, suppress_health_check=["function_scoped_fixture"])  # type: ignore[list-item]
@given(edits=st.lists(EDIT, min_size=1, max_size=4))
def test_good_files_with_damage(folder: Path, name: str, edits: list[tuple[float, int, bytes]]) -> None:
    (folder / name).write_bytes(edited(seeds()[name], edits))
    keeps_all_promises(folder / name)


@pytest.mark.parametrize("name", TABLES)
@settings(max_examples=40, derandomize=True, suppress_health_check=["function_scoped_fixture"])  # type: ignore[list-item]
@given(edits=st.lists(EDIT, min_size=1, max_size=3))
def test_good_tables_with_damage(folder: Path, name: str, edits: list[tuple[float, int, bytes]]) -> None:
    (folder / name).write_bytes(edited(seeds()[name], edits))
    reading_keeps_its_promises(folder / name)
    converting_keeps_its_promises(folder / name)


@settings(max_examples=40, suppress_health_check=["function_scoped_fixture"])  # type: ignore[list-item]
@given(edits=st.lists(EDIT, min_size=1, max_size=4))
def test_each_line_that_is_not_blank_is_a_row_or_a_bad_row(folder: Path, edits: list[tuple[float, int, bytes]]) -> None:
    good = json.dumps(ROWS[0]).encode() + b"\n"
    data = good + edited(seeds()["a.jsonl"], edits)
    (folder / "a.jsonl").write_bytes(data)
    found = reading_keeps_its_promises(folder / "a.jsonl")
    lines = data.split(b"\n")
    assert [row.number for row in found] == [n for n, line in enumerate(lines, start=1) if line.strip()]


@settings(max_examples=60, suppress_health_check=["function_scoped_fixture"])  # type: ignore[list-item]
@given(rows=st.lists(ROW | JSON, min_size=1, max_size=4), in_array=st.booleans())
def test_any_json(folder: Path, rows: list[Any], in_array: bool) -> None:
    path = folder / ("a.json" if in_array else "a.jsonl")
    path.write_text(json.dumps(rows) if in_array else "\n".join(map(json.dumps, rows)))
    keeps_all_promises(path)
    validating_keeps_its_promises(path, fix=True)


@settings(max_examples=60, suppress_health_check=["function_scoped_fixture"])  # type: ignore[list-item]
@given(rows=st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=4), min_size=1, max_size=4))
def test_an_array_and_lines_hold_the_same_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    """All but what only one of them allows: NaN costs an array, and half a character costs a line."""
    text = json.dumps(rows)
    if "NaN" in text or "Infinity" in text or "\\ud" in text:
        return
    (folder / "a.json").write_text(text)
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    of_array, of_lines = (reading_keeps_its_promises(folder / name) for name in ("a.json", "a.jsonl"))
    assert [row.data for row in of_array] == [row.data for row in of_lines] == rows  # type: ignore[union-attr]
