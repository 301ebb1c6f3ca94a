"""What the readers of all containers yield: a row, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Characters (bytes, in JSONL and text) of one row. A longer one is refused: a reader that holds a row of a gigabyte
# as bytes, as text and as values takes five of them.
ROW_LIMIT = 1 << 28
RAW_KEPT = 1000  # characters that are kept of a row beyond the limit


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was read. ``number`` counts from 1: the line in JSONL and text, the record elsewhere."""

    file: str
    number: int
    data: dict[str, Any]

    @property
    def where(self) -> str:
        return f"{self.file}, row {self.number}"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be read: why, and its raw text (bytes that are no UTF-8 as ``\\xNN``)."""

    file: str
    number: int
    reason: str
    raw: str

    @property
    def where(self) -> str:
        return f"{self.file}, row {self.number}"


def too_long(file: str, number: int, start: str, limit: int) -> BadRow:
    """The row that is beyond ``limit``; of its text only the ``start`` is known."""
    reason = f"the row is too long (more than {limit:,} characters; only its beginning is kept)"
    return BadRow(file, number, reason, start[:RAW_KEPT] + "…")


def backslashed(text: str) -> str:
    """Text that was read with ``surrogateescape``, its bytes that are no UTF-8 as ``\\xNN``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_utf8(text: str) -> bool:
    """Whether all of a text read with ``surrogateescape`` was UTF-8. Encoding it is the fastest way to see."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def why_not_utf8(line: bytes) -> str | None:
    """The reason for a line of bytes that is no UTF-8; None where it is."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as bad:
        return f"invalid UTF-8: byte 0x{line[bad.start]:02x} at offset {bad.start} of the line"
    return None
