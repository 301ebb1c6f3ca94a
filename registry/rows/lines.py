"""Lines of a file as bytes, in blocks; of a line beyond the limit only its beginning is ever held."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

from registry.rows import row

BLOCK = 1 << 18  # bytes asked for at a time
KEPT_BYTES = 4 * row.RAW_KEPT


@dataclass(frozen=True, slots=True)
class TooLong:
    """A line beyond ``row.ROW_LIMIT`` bytes: how it begins."""

    start: bytes

    @property
    def text(self) -> str:
        return self.start.decode("utf-8", "backslashreplace")


def read_lines(handle: io.BufferedReader, *, any_end: bool = False) -> Iterator[tuple[list[bytes | TooLong], bool]]:
    """(lines without their ends, whether the last of them had one) for each block, in order.

    Lines end with ``\\n``; with ``any_end`` also with ``\\r\\n`` or a lone ``\\r``. Only the last block's last line
    may lack its end. Splitting blocks is faster than asking for each line, and bounds a line that never ends.
    """
    limit = row.ROW_LIMIT
    pieces: list[bytes] = []  # of a line that is not at its end
    held = 0  # bytes of it so far, those beyond the limit included, which are no longer in ``pieces``
    for block in _blocks(handle, any_end):
        first, *rest = block.split(b"\n")
        if held <= limit:
            pieces.append(first)
        held += len(first)
        if held > limit and len(pieces) > 1:
            pieces = [b"".join(pieces)[:KEPT_BYTES]]
        if not rest:
            continue
        last = rest.pop()
        lines = [_line(pieces, held, limit), *rest]
        yield (lines if len(block) <= limit else [_capped(line, limit) for line in lines]), True
        pieces, held = [last], len(last)
    if held:
        yield [_line(pieces, held, limit)], False


def _line(pieces: list[bytes], length: int, limit: int) -> bytes | TooLong:
    line = b"".join(pieces)
    return line if length <= limit else TooLong(line[:KEPT_BYTES])


def _capped(line: bytes | TooLong, limit: int) -> bytes | TooLong:
    return line if isinstance(line, TooLong) or len(line) <= limit else TooLong(line[:KEPT_BYTES])


def _blocks(handle: io.BufferedReader, any_end: bool) -> Iterator[bytes]:
    kept = b""  # a \r at the end of a block, whose \n may begin the next one
    while block := handle.read1(BLOCK):
        if any_end:
            block = kept + block
            kept = b""
            if b"\r" in block:
                if block.endswith(b"\r"):
                    block, kept = block[:-1], b"\r"
                block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        yield block
    if kept:
        yield b"\n"
