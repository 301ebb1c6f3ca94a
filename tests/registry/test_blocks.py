"""registry.blocks: blocks hold every line once, in order, with its number and place, however files are cut and packed."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.blocks import Block, read_blocks, rows_of_block
from registry.errors import UsageError
from registry.rows import BadRow, Row, read_rows
from registry.rows import row as limits

LINES = b'{"a":1}\n\n{"a":"long enough"}\r\n  \n{"a":2}\n[1]\n{"a":3}'


def parts_of(items):
    """Rows of blocks and rows by themselves, as ``read_rows`` gives them."""
    for item in items:
        if isinstance(item, Block):
            yield from rows_of_block(item)
        else:
            yield item


_line = st.sampled_from([b'{"a":1}', b'{"b":[1,2,{"c":"d"}]}', b"", b" ", b"[1]", b"{", b'"x"', b'\xef\xbb\xbf{"a":1}'])


@given(st.lists(_line), st.booleans(), st.booleans(), st.integers(1, 40), st.sampled_from([b"\n", b"\r\n"]))
def test_blocks_of_any_size_hold_the_rows_that_read_rows_gives(tmp_path_factory, lines, bom, ended, size, end):
    file = tmp_path_factory.mktemp("blocks") / "a.jsonl"
    content = end.join(lines) + end * ended
    file.write_bytes(b"\xef\xbb\xbf" * bom + content)
    try:
        expected = list(read_rows([file]))
    except UsageError:
        with pytest.raises(UsageError):
            list(read_blocks([file], size=size))
        return
    items = list(read_blocks([file], size=size))
    assert list(parts_of(items)) == expected
    whole = file.read_bytes()
    for block in items:
        if isinstance(block, Block):
            assert whole[block.offset : block.offset + len(block.data)] == block.data
            assert whole.count(b"\n", 0, block.offset) + 1 == block.number


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_compressed_files_come_in_the_same_blocks(tmp_path: Path, ending):
    file = tmp_path / f"a.jsonl{ending}"
    pack = {"": lambda data: data, ".gz": gzip.compress, ".zst": lambda data: pa.compress(data, "zstd", asbytes=True)}
    file.write_bytes(pack[ending](LINES))
    assert [(b.number, b.offset) for b in read_blocks([file], size=20)] == [(1, 0), (3, 9), (7, 45)]


def test_what_comes_through_a_pipe_is_not_waited_for(monkeypatch):
    pieces = [b'{"a":1}\n{"a"', b":2}\n", b'{"a":3}\n']

    class Pipe(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            piece = pieces.pop(0) if pieces else b""
            buffer[: len(piece)] = piece
            return len(piece)

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Pipe())))
    items = read_blocks(["-"])
    assert next(items) == Block("-", 1, 0, b'{"a":1}\n')
    assert pieces
    assert b"".join(block.data for block in items) == b'{"a":2}\n{"a":3}\n'


def test_other_files_come_row_by_row(tmp_path: Path):
    (tmp_path / "a.json").write_text('[{"a":1},{"a":2}]')
    (tmp_path / "b.jsonl").write_text('{"a":3}\n')
    (tmp_path / "c.csv").write_text("a\n4\n")
    items = list(read_blocks([tmp_path / name for name in ("a.json", "b.jsonl", "c.csv")]))
    assert [type(item) for item in items] == [Row, Row, Block, Row]


@pytest.mark.parametrize("size", [8, 1 << 20])
def test_a_line_beyond_the_limit_costs_only_itself_and_is_not_held(tmp_path: Path, monkeypatch, size):
    monkeypatch.setattr(limits, "ROW_LIMIT", 50)
    long = b'{"a":"' + b"x" * 500 + b'"}'
    (tmp_path / "a.jsonl").write_bytes(b'{"a":1}\n' + long + b'\n{"a":2}\n' + long)
    rows = list(parts_of(read_blocks([tmp_path / "a.jsonl"], size=size)))
    assert [(row.number, isinstance(row, BadRow)) for row in rows] == [(1, False), (2, True), (3, False), (4, True)]
    assert rows[1].raw.startswith('{"a":"xxx')
