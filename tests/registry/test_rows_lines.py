"""Lines out of blocks: the same lines however the bytes arrive, and never more held of one than the limit."""

import io
import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

import registry.rows.lines
import registry.rows.row
from registry.rows import BadRow, Row, read_rows
from registry.rows.lines import TooLong, read_lines

CONTENT = st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"a", b"bc", b"\xff", b"\x00"]), max_size=30).map(b"".join)


class Dripping(io.RawIOBase):
    """Bytes that arrive a few at a time, as from a pipe."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size = io.BytesIO(data), size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        piece = self._data.read(min(self._size, len(buffer)))
        buffer[: len(piece)] = piece
        return len(piece)


def lines_of(data: bytes, size: int, limit: int, any_end: bool) -> tuple[list[bytes | TooLong], bool]:
    """All lines, and whether the last one had its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry.rows.row, "ROW_LIMIT", limit)
        found, ended = [], True
        for lines, ended in read_lines(io.BufferedReader(Dripping(data, size)), any_end=any_end):  # noqa: B007
            found += lines
    return found, ended


@given(CONTENT, st.integers(1, 7), st.booleans())
def test_lines_are_the_same_however_the_bytes_arrive(data, size, any_end):
    expected = re.split(b"\r\n|\r|\n", data) if any_end else data.split(b"\n")
    last = expected.pop()
    found, ended = lines_of(data, size, 1000, any_end)
    assert found == expected + ([last] if last else [])
    assert ended == (not last)


@given(CONTENT, st.integers(1, 7), st.integers(1, 6))
def test_a_line_beyond_the_limit_is_told_by_its_beginning_and_the_others_are_whole(data, size, limit):
    expected = data.split(b"\n")
    if not expected[-1]:
        expected.pop()
    found, _ = lines_of(data, size, limit, False)
    for line, true in zip(found, expected, strict=True):
        if len(true) <= limit:
            assert line == true
        else:
            assert isinstance(line, TooLong)
            assert line.start
            assert true.startswith(line.start)


def row_of(length: int, name: str) -> tuple[bytes, bytes]:
    """What stands before and behind a long row between two short ones."""
    if name.endswith(".txt"):
        return b"a\n", b"\nb\n"
    if name.endswith(".jsonl"):
        return b'{"a":1}\n{"a":"', b'"}\n{"a":2}\n'
    return b'[{"a":1},\n{"a":"', b'"},\n{"a":2}]'


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.txt"])
def test_a_row_beyond_the_limit_is_rejected_without_being_held(tmp_path, monkeypatch, name):
    limit, length = 1_000_000, 40_000_000
    monkeypatch.setattr(registry.rows.row, "ROW_LIMIT", limit)
    before, behind = row_of(length, name)
    (tmp_path / name).write_bytes(before + b"x" * length + behind)
    tracemalloc.start()
    first, long, last = read_rows([tmp_path / name])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(first, Row)
    assert isinstance(last, Row)
    assert isinstance(long, BadRow)
    assert long.number == 2
    assert long.reason == "the row is too long (more than 1,000,000 characters; only its beginning is kept)"
    assert long.raw.endswith("xxx…")
    assert len(long.raw) <= registry.rows.row.RAW_KEPT + 1
    assert peak < 12 * limit  # the array's reader doubles what it holds until it is beyond the limit


def test_a_row_within_the_limit_is_read_whatever_its_length(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"a":"' + b"x" * 5_000_000 + b'"}')
    (row,) = read_rows([tmp_path / "a.jsonl"])
    assert len(row.data["a"]) == 5_000_000  # type: ignore[union-attr]
