"""What is still whole in a damaged store: each page of the file is looked at by itself, whatever the others hold.

Follows the file format that SQLite publishes (sqlite.org/fileformat2.html): a leaf of a table begins with 0x0D and holds
cells, each with a row or its beginning; what does not fit goes on in overflow pages. Nothing but the pages of a row is
needed to read it, and its checksum tells whether it is one of ours and whole.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from datakit.augment.store.layout import PAGE_BYTES, wal_path
from datakit.augment.store.rows import COLUMNS, KEY, Row, from_row

LEAF = 0x0D
FILE_HEADER, PAGE_HEADER = 100, 8
WAL_HEADER, FRAME_HEADER = 32, 24
WAL_MAGIC = b"\x37\x7f\x06"
KEY_TYPE = 16 * 2 + 12  # how a record says: a blob of 16 bytes
MOST_COUNTED_BYTES = 256 << 20  # of a file, where people wait for nothing but a message
INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)
FLOAT, ZERO, ONE, FIRST_BLOB = 7, 8, 9, 12
FLOATS = tuple(COLUMNS.index(name) for name in ("created", "seconds"))  # whole ones are kept as integers


@dataclass
class Tally:
    """What was met: rows that are ``whole``, and those that look like ours but are ``spoilt``."""

    whole: int = 0
    spoilt: int = 0


def whole_rows(path: Path, tally: Tally, *, most_bytes: int | None = None) -> Iterator[Row]:
    """All rows that match their checksum, in the order of pages; a key may come twice.

    Looks no further than ``most_bytes`` into the file. Raises ``OSError`` where it cannot be read at all.
    """
    with path.open("rb") as handle:
        for page_bytes in _page_sizes(handle):
            yield from _rows_in(_Pages(handle, path, page_bytes), tally, most_bytes)
            if tally.whole:
                return


def _page_sizes(handle: BinaryIO) -> list[int]:
    """What the head of the file says, if it can be so, and what it should say."""
    head = handle.read(FILE_HEADER)
    told = int.from_bytes(head[16:18])
    told = 65536 if told == 1 else told
    return list(dict.fromkeys((told, PAGE_BYTES))) if told >= 512 and told & (told - 1) == 0 else [PAGE_BYTES]


def _rows_in(pages: _Pages, tally: Tally, most_bytes: int | None) -> Iterator[Row]:
    for number in range(1, pages.count(most_bytes) + 1):
        page = pages.get(number)
        header = FILE_HEADER if number == 1 else 0
        if len(page) < header + PAGE_HEADER or page[header] != LEAF:
            continue
        num_cells = min(int.from_bytes(page[header + 3 : header + 5]), (len(page) - header - PAGE_HEADER) // 2)
        for start in struct.unpack_from(f">{num_cells}H", page, header + PAGE_HEADER):
            row = _row_at(page, start, pages)
            if row is None:
                continue
            if from_row(row) is None:
                tally.spoilt += 1
            else:
                tally.whole += 1
                yield row


def count_whole(path: Path) -> int:
    """How many answers can be saved from (the first 256 MB of) a file; 0 for one that is no store."""
    return len({row[KEY] for row in whole_rows(path, Tally(), most_bytes=MOST_COUNTED_BYTES)})


@dataclass
class _Pages:
    """The pages of the file, and instead of them the newer ones that a killed run left in the WAL."""

    handle: BinaryIO
    path: Path
    size: int
    num_bytes: int = 0
    newer: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.num_bytes = self.path.stat().st_size
        self._read_wal(wal_path(self.path.resolve()))

    def count(self, most_bytes: int | None) -> int:
        num_bytes = self.num_bytes if most_bytes is None else min(self.num_bytes, most_bytes)
        return max(-(-num_bytes // self.size), *self.newer, 0, 0)

    def get(self, number: int) -> bytes:
        """One page; less, or nothing, where the file ends before."""
        if number in self.newer:
            return self.newer[number]
        try:
            self.handle.seek((number - 1) * self.size)
        except (OSError, OverflowError, ValueError):  # a damaged number, far beyond any file
            return b""
        return self.handle.read(self.size)

    def _read_wal(self, wal: Path) -> None:
        if not wal.exists():
            return
        with wal.open("rb") as handle:
            header = handle.read(WAL_HEADER)
            if header[:3] != WAL_MAGIC or int.from_bytes(header[8:12]) != self.size:
                return
            while len(frame := handle.read(FRAME_HEADER + self.size)) == FRAME_HEADER + self.size:
                if frame[8:16] != header[16:24]:  # left over from an earlier round
                    return
                self.newer[int.from_bytes(frame[:4])] = frame[FRAME_HEADER:]


def _row_at(page: bytes, start: int, pages: _Pages) -> Row | None:
    """The row of the cell at ``start``; None where no row of ours can be made out."""
    try:
        length, at = _varint(page, start)
        _, at = _varint(page, at)  # the number of the row
        inline = _inline_bytes(length, len(page))
        # The head of the record: its own length, then how each value is kept. The first is the number again, as NULL.
        head, behind = _varint(page, at)
        types: list[int] = []
        while behind < at + head and len(types) <= len(COLUMNS) + 1:
            kind, behind = _varint(page, behind)
            types.append(kind)
        if (
            len(types) != len(COLUMNS) + 1
            or types[0] != 0
            or types[1 + KEY] != KEY_TYPE
            or length > pages.num_bytes * 2
        ):
            return None
        payload = page[at : at + inline]
        if inline < length:
            payload += _overflow(int.from_bytes(page[at + inline : at + inline + 4]), length - inline, pages)
        values: list[Any] = list(_values(payload, head, types[1:]))
        for index in FLOATS:
            values[index] = float(values[index])
        return tuple(values) if isinstance(values[-2], bytes) else None
    except (IndexError, ValueError, TypeError, struct.error):
        return None


def _varint(page: bytes, at: int) -> tuple[int, int]:
    """A number of one to nine bytes, and where it ends."""
    value = 0
    for step in range(8):
        byte = page[at + step]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + step + 1
    return value << 8 | page[at + 8], at + 9


def _inline_bytes(length: int, usable: int) -> int:
    """How much of a record of ``length`` bytes lies in the leaf itself (file format, section 1.6)."""
    most = usable - 35
    if length <= most:
        return length
    least = (usable - 12) * 32 // 255 - 23
    fitting = least + (length - least) % (usable - 4)
    return fitting if fitting <= most else least


def _overflow(number: int, length: int, pages: _Pages) -> bytes:
    parts: list[bytes] = []
    while length > 0:
        page = pages.get(number) if number else b""
        if len(page) < pages.size:
            raise ValueError("the row ends before its end")
        parts.append(page[4 : 4 + length])
        length -= len(parts[-1])
        number = int.from_bytes(page[:4])
    return b"".join(parts)


def _values(payload: bytes, at: int, types: list[int]) -> Iterator[int | float | bytes | str | None]:
    for kind in types:
        if kind >= FIRST_BLOB:
            size = (kind - FIRST_BLOB) // 2
            raw = payload[at : at + size]
            if len(raw) < size:
                raise ValueError("the value ends before its end")
            yield raw.decode("utf-8", "replace") if kind % 2 else raw
        elif kind == FLOAT:
            size = 8
            yield struct.unpack_from(">d", payload, at)[0]
        elif kind in (ZERO, ONE):
            size = 0
            yield kind - ZERO
        else:
            size = INTEGER_BYTES[kind]
            yield int.from_bytes(payload[at : at + size], signed=True) if kind else None
        at += size
