"""Chunks of rows: cut at the same places whoever reads them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from registry.blocks import Block
from registry.encoded import chunks as module
from registry.encoded.chunks import Chunk, chunks_of, has_places, is_small, places_of, rows_of_pieces
from registry.rows import BadRow, Row
from tests.registry.encoded.conftest import write_lines

ROWS = [{"n": n, "text": "x" * 80} for n in range(20)]


def numbers(pieces: object) -> list[int]:
    return [row.number for row in rows_of_pieces(pieces)]  # type: ignore[arg-type]


def test_a_chunk_is_named_by_its_file_and_its_place_there() -> None:
    assert Chunk(3, 12).name == "0003-000012"


def test_a_small_file_is_one_chunk(tmp_path: Path) -> None:
    file = str(write_lines(tmp_path / "a.jsonl", ROWS))
    assert is_small(file)
    assert [numbers(pieces) for pieces in chunks_of(file, keep_blank_lines=False)] == [list(range(1, 21))]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz"])
def test_a_large_one_is_several_that_hold_every_row_once(tmp_path: Path, name: str) -> None:
    path = write_lines(tmp_path / "plain.jsonl", ROWS)
    content = path.read_bytes()
    written = {"a.jsonl": content, "a.json": json.dumps(ROWS).encode(), "a.jsonl.gz": gzip.compress(content)}[name]
    (tmp_path / name).write_bytes(written)
    file = str(tmp_path / name)
    assert not is_small(file)
    found = [numbers(pieces) for pieces in chunks_of(file, keep_blank_lines=False)]
    assert len(found) > 3
    assert [n for chunk in found for n in chunk] == list(range(1, 21))


@pytest.mark.usefixtures("small_chunks")
def test_a_chunk_of_plain_lines_can_be_read_where_it_lies(tmp_path: Path) -> None:
    file = str(write_lines(tmp_path / "a.jsonl", ROWS))
    assert has_places(file)
    for pieces in chunks_of(file, keep_blank_lines=False):
        places = places_of(pieces)
        assert places is not None
        read = [place.read() for place in places]
        assert list(rows_of_pieces(read)) == list(rows_of_pieces(pieces))


def test_rows_that_lie_in_no_plain_lines_have_no_place(tmp_path: Path) -> None:
    assert not has_places(str(tmp_path / "a.json"))
    assert not has_places(str(tmp_path / "a.jsonl.gz"))
    assert not has_places("-")
    block = Block("a.jsonl", 1, 0, b"{}\n")
    assert places_of([block]) is None
    assert places_of([[Row("a.jsonl", 1, {})]]) is None


def test_blank_lines_of_texts_are_rows_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    file = str(tmp_path / "a.txt")

    def texts(*, keep: bool) -> list[str]:
        rows = [row for pieces in chunks_of(file, keep_blank_lines=keep) for row in rows_of_pieces(pieces)]
        return [row.data["text"] for row in rows if isinstance(row, Row)]

    assert texts(keep=False) == ["one", "two"]
    assert texts(keep=True) == ["one", "", "two"]


@pytest.mark.usefixtures("small_chunks")
def test_a_line_beyond_all_limits_is_a_bad_row_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.rows.row.ROW_LIMIT", 400)
    file = str(write_lines(tmp_path / "a.jsonl", [*ROWS[:6], {"n": 7, "text": "x" * 1000}, *ROWS[7:]]))
    rows = [row for pieces in chunks_of(file, keep_blank_lines=False) for row in rows_of_pieces(pieces)]
    assert [row.number for row in rows] == list(range(1, 21))
    assert [row.number for row in rows if isinstance(row, BadRow)] == [7]


def test_a_file_without_rows_is_told_and_has_no_chunk_with_rows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.jsonl").write_text("\n")
    file = str(tmp_path / "a.jsonl")
    assert [numbers(pieces) for pieces in chunks_of(file, keep_blank_lines=False)] == [[]]
    assert caplog.messages == [f"there is no row in {file}"]


def test_the_limits_are_ordinary_ones() -> None:
    """A chunk is some megabytes: enough for a tokenizer's threads, little to lose."""
    assert 1 << 20 <= module.ONE_CHUNK <= 64 << 20
