"""Plain text: a row for each line."""

from __future__ import annotations

import io
from collections.abc import Iterator

from registry.rows import row as limits
from registry.rows.lines import TooLong, read_lines
from registry.rows.row import BadRow, Row, too_long, why_not_utf8


def read_text_lines(file: str, handle: io.BufferedReader, keep_blank_lines: bool) -> Iterator[Row | BadRow]:
    """Each line as ``{"text": line}``, without its end; blank lines only where they are kept."""
    number = 0
    for lines, _ in read_lines(handle, any_end=True):
        for line in lines:
            number += 1
            if isinstance(line, TooLong):
                yield too_long(file, number, line.text, limits.ROW_LIMIT)
                continue
            try:
                text = line.decode()
            except UnicodeDecodeError:
                yield BadRow(file, number, str(why_not_utf8(line)), line.decode("utf-8", "backslashreplace"))
                continue
            if keep_blank_lines or text.strip():
                yield Row(file, number, {"text": text})
