"""The lines of a block of JSON, each with its number in the file."""

from __future__ import annotations

from collections.abc import Iterator

from registry.blocks import Block
from registry.rows import BadRow, Row, row_of_line


def numbered_lines(block: Block) -> list[tuple[int, bytes, bool]]:
    """(number, line, whether it is the file's last and lacks its line break) of each line that is not blank."""
    lines = block.data.split(b"\n")
    last = block.number + len(lines) - 1  # what comes after the last line break: nothing, in all blocks but one
    return [(n, line, n == last) for n, line in enumerate(lines, start=block.number) if line and not line.isspace()]


def rows_of(block: Block) -> Iterator[Row | BadRow]:
    """The rows of a block's lines."""
    for number, line, cut in numbered_lines(block):
        yield row_of_line(block.file, number, line, cut=cut)
