"""JSON lines in blocks of whole lines, so that one call can decode thousands of rows; other files row by row."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from registry.errors import UsageError, from_os_error
from registry.rows import BadRow, Row, read_parts, row_of_line
from registry.rows import row as limits
from registry.rows.row import too_long
from registry.sources import STDIN
from registry.unchanged import Identity, check_unchanged, identity

# Bytes. What stays in a core's cache, bytes and the objects made of them, decodes 1.5 times as fast as blocks of 8 MiB.
BLOCK_SIZE = 1 << 20
LINE_END = 10
GATHERED_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of a file: ``number`` is the first one's, from 1, and ``offset`` its place in bytes.

    In a compressed file the offset is one of the text inside. Blank lines are among them, and so are line breaks; only
    the last line of a file may lack its own. ``lies_in`` is where else the bytes can be had, at ``offset``.
    """

    file: str
    number: int
    offset: int
    data: bytes
    lies_in: Plain | None = None

    def place(self) -> Place | None:
        """Where the bytes lie, for another process to read them there: they pass a pipe at a tenth of that speed."""
        plain = self.lies_in
        return None if plain is None else Place(self.file, self.number, self.offset, len(self.data), plain)


class Plain(NamedTuple):
    """A file on this machine that is not compressed."""

    path: str
    identity: Identity | None


class Place(NamedTuple):
    """Where the bytes of a block lie."""

    file: str
    number: int
    offset: int
    size: int
    plain: Plain

    def read(self) -> Block:
        """The block. Raises ``UsageError`` where the file is not what it was, and as the system cannot read it."""
        data = b""
        try:
            with Path(self.plain.path).open("rb", buffering=0) as handle:
                while more := os.pread(handle.fileno(), self.size - len(data), self.offset + len(data)):
                    data = data + more if data else more
        except OSError as error:
            check_unchanged(self.plain.path, self.plain.identity)
            raise from_os_error(error, f"reading {self.file}") from error
        check_unchanged(self.plain.path, self.plain.identity)
        if len(data) != self.size:
            what = f"{self.size - len(data):,} bytes are not there any more at {self.offset + len(data):,}"
            raise UsageError(what, where=self.file, mend="Wait until the file is complete, or read a copy.")
        return Block(self.file, self.number, self.offset, data)


Item = Block | Row | BadRow  # what ``read_blocks`` yields
Piece = Block | list[Row | BadRow]  # see ``gathered``


def read_blocks(sources: Iterable[str | Path], *, size: int = BLOCK_SIZE) -> Generator[Item, None, None]:
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
    plain = _plain(file, handle)
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
                yield Block(file, number, offset, data, plain)
            number, offset = number + lines.count(data), offset + end
        searched = held
        if held > limit:
            yield too_long(file, number, buffer[: 4 * limits.RAW_KEPT].decode(errors="replace"), limit)
            skipped, held = _skip_line(read, buffer, held)
            number, offset, searched = number + 1, offset + skipped, 0
        elif held == len(buffer):
            buffer.extend(bytes(min(held, limit + 1 - held)))
    if held and not buffer[:held].isspace():
        yield Block(file, number, offset, bytes(memoryview(buffer)[:held]), plain)


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


def _plain(file: str, handle: io.BufferedReader) -> Plain | None:
    raw = handle.raw
    if file == STDIN or not isinstance(raw, io.FileIO) or not hasattr(os, "pread"):
        return None
    path = str(raw.name)
    return Plain(path, identity(path)) if Path(path).is_file() else None


def _place(handle: io.BufferedReader) -> int:
    """How many bytes were read before: those of a byte order mark."""
    try:
        return handle.tell()
    except (OSError, ValueError):  # a stream from another process
        return 0


def gathered(items: Iterable[Item]) -> Iterator[Piece]:
    """Blocks as they are, and other rows together: of one file, at most ``GATHERED_ROWS`` and about as many characters
    as a block has bytes."""
    rows: list[Row | BadRow] = []
    for item in items:
        if rows and (isinstance(item, Block) or item.file != rows[0].file or _is_full(rows)):
            yield rows
            rows = []
        if isinstance(item, Block):
            yield item
        else:
            rows.append(item)
    if rows:
        yield rows


def _is_full(rows: list[Row | BadRow]) -> bool:
    if len(rows) >= GATHERED_ROWS:
        return True
    last = rows[-1]
    texts = last.data.values() if isinstance(last, Row) else (last.raw,)
    return sum(len(text) for text in texts if isinstance(text, str)) * len(rows) > BLOCK_SIZE


def rows_in(item: Item) -> int:
    """How many rows an item stands for, about: blank lines count as well."""
    return item.data.count(b"\n") if isinstance(item, Block) else 1


def rows_of_item(item: Item) -> Iterable[Row | BadRow]:
    """The rows of a block, or the row itself."""
    return rows_of_block(item) if isinstance(item, Block) else (item,)


def numbered_lines(block: Block) -> list[tuple[int, bytes, bool]]:
    """(number, line, whether it is the file's last and lacks its line break) of each line that is not blank."""
    lines = block.data.split(b"\n")
    last = block.number + len(lines) - 1  # what comes after the last line break: nothing, in all blocks but one
    return [(n, line, n == last) for n, line in enumerate(lines, start=block.number) if line and not line.isspace()]


def rows_of_block(block: Block) -> Iterator[Row | BadRow]:
    """The rows of the block's lines, blank ones passed over."""
    for number, line, cut in numbered_lines(block):
        yield row_of_line(block.file, number, line, cut=cut)
