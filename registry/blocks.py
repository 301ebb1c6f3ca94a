"""JSON lines in blocks of whole lines, so that one call can decode thousands of rows; other files row by row."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from registry.rows import BadRow, Row, read_parts, row_of_line
from registry.rows import row as limits
from registry.rows.row import too_long
from registry.sources import STDIN

# Bytes. What stays in a core's cache, bytes and the objects made of them, decodes 1.5 times as fast as blocks of 8 MiB.
BLOCK_SIZE = 1 << 20
LINE_END = 10


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of a file: ``number`` is the first one's, from 1, and ``offset`` its place in bytes.

    In a compressed file the offset is one of the text inside. Blank lines are among them, and so are line breaks; only
    the last line of a file may lack its own.
    """

    file: str
    number: int
    offset: int
    data: bytes


def read_blocks(
    sources: Iterable[str | Path], *, size: int = BLOCK_SIZE
) -> Generator[Block | Row | BadRow, None, None]:
    """Every row of every source in order: JSON lines in blocks of at most ``size`` bytes, all else as ``read_rows`` does.

    A line longer than ``size`` is a block of its own; one beyond the limit of all readers comes as a ``BadRow``.
    A byte order mark at the start of a file is passed over: the first block's ``offset`` is 3 then, except on streams
    that cannot tell. Raises ``UsageError`` as ``read_rows`` does.
    """
    yield from read_parts(sources, lambda file, handle: _blocks(file, handle, size))


def _blocks(file: str, handle: io.BufferedReader, size: int) -> Iterator[Block | BadRow]:
    limit = limits.ROW_LIMIT
    size = min(size, limit)
    read = partial(_read_what_is_there, handle) if file == STDIN else handle.readinto
    number, offset, lines = 1, _place(handle), _LineCounter()
    buffer = bytearray(size)  # kept from block to block: fresh memory for each costs as much as reading
    held = searched = 0  # bytes in it; those without a line break at the start
    while got := read(memoryview(buffer)[held:]):
        held += got
        end = buffer.rfind(b"\n", searched, held) + 1
        if end:
            data = bytes(memoryview(buffer)[:end])
            buffer[: held - end] = buffer[end:held]
            held -= end
            if len(buffer) > size > held:
                del buffer[size:]
            if not data.isspace():
                yield Block(file, number, offset, data)
            number, offset = number + lines.count(data), offset + end
        searched = held
        if held > limit:
            yield too_long(file, number, buffer[: 4 * limits.RAW_KEPT].decode(errors="replace"), limit)
            skipped, held = _skip_line(read, buffer, held)
            number, offset, searched = number + 1, offset + skipped, 0
        elif held == len(buffer):
            buffer.extend(bytes(min(held, limit + 1 - held)))
    if held and not buffer[:held].isspace():
        yield Block(file, number, offset, bytes(memoryview(buffer)[:held]))


def _read_what_is_there(handle: io.BufferedReader, buffer: bytearray | memoryview) -> int:
    """As ``readinto``, but what comes through a pipe is not waited for (``readinto1`` waits for more than it has)."""
    data = handle.read1(len(buffer))
    buffer[: len(data)] = data
    return len(data)


def _skip_line(read: Callable[[bytearray], int], buffer: bytearray, held: int) -> tuple[int, int]:
    """Pass over the rest of a line of which ``held`` bytes were read: its length, and how many bytes of the next lines
    are in the buffer then."""
    length = held
    while got := read(buffer):
        end = buffer.find(b"\n", 0, got) + 1
        if end:
            buffer[: got - end] = buffer[end:got]
            return length + end, got - end
        length += got
    return length, 0


class _LineCounter:
    """Counts lines in an array that it keeps: fresh memory for each block costs more than the counting, and
    ``bytes.count`` takes five times as long where lines are long."""

    def __init__(self) -> None:
        import numpy as np

        self._is_end = np.empty(0, np.bool_)

    def count(self, data: bytes) -> int:
        """How many lines end in ``data``."""
        import numpy as np

        if len(data) > len(self._is_end):
            self._is_end = np.empty(len(data) + len(data) // 8, np.bool_)
        is_end = np.equal(np.frombuffer(data, np.uint8), LINE_END, out=self._is_end[: len(data)])
        return int(np.count_nonzero(is_end))


def _place(handle: io.BufferedReader) -> int:
    """How many bytes were read before: those of a byte order mark."""
    try:
        return handle.tell()
    except (OSError, ValueError):  # a stream from another process
        return 0


def rows_of_block(block: Block) -> Iterator[Row | BadRow]:
    """The rows of the block's lines, blank ones passed over."""
    lines = block.data.split(b"\n")
    last = block.number + len(lines) - 1  # without a line break, where it is not empty
    for number, line in enumerate(lines, start=block.number):
        if line and not line.isspace():
            yield row_of_line(block.file, number, line, cut=number == last)
