"""CSV and TSV: a row for each record, every cell the text it is."""

from __future__ import annotations

import csv
import io
import logging
from collections import Counter
from collections.abc import Iterator

import orjson

from registry.errors import UsageError
from registry.rows import row as limits
from registry.rows.row import BadRow, Row, backslashed, is_utf8

log = logging.getLogger("tunekit")

# Characters of a record over several lines. An open quote takes in all that follows, at 20 bytes a character.
SPAN_LIMIT = 1 << 25
_OTHER_DELIMITERS = ";\t|,"
_MOST_NAMES = 10  # columns listed in an error


def read_delimited(file: str, handle: io.BufferedReader, delimiter: str) -> Iterator[Row | BadRow]:
    """A row for each record under the header. Guessing types would turn the code 007 into 7, so none are guessed.

    A record of the wrong length, or with text behind a closing quote, costs that row only. Raises ``UsageError``
    for headers that cannot be used, and for a quote that is never closed: nobody knows which rows it swallowed.
    """
    table = _Table(file, handle, delimiter)
    header = table.header()
    if header is None:
        return
    width = len(header)
    for number, (cells, raw) in enumerate(table.records(), start=1):
        if cells is None:
            yield BadRow(file, number, "text stands behind the closing quote of a cell", backslashed(raw))
        elif not is_utf8(raw):
            yield BadRow(file, number, "invalid UTF-8", backslashed(raw))
        elif len(cells) != width:
            yield BadRow(file, number, table.wrong_length(len(cells), width), raw)
        else:
            yield Row(file, number, dict(zip(header, cells, strict=True)))


def _is_json(line: str) -> bool:
    """Whether a header is a row of JSON, or how an array of them begins."""
    if line.strip() in ("[", "{"):
        return True
    try:
        return isinstance(orjson.loads(line), dict | list)
    except orjson.JSONDecodeError:
        return False


class _Table:
    """The records of a file with the lines that each was read from."""

    def __init__(self, file: str, handle: io.BufferedReader, delimiter: str) -> None:
        self._file, self._delimiter = file, delimiter
        self._kind = "CSV" if delimiter == "," else "TSV"
        csv.field_size_limit(max(limits.ROW_LIMIT, csv.field_size_limit()))  # what is too long shows in _lines
        self._text = io.TextIOWrapper(handle, encoding="utf-8-sig", errors="surrogateescape", newline="")
        self._held: list[str] = []  # the lines of the record that is being read
        self._length = 0  # of them all, in characters
        self._ended = False
        self._first = 1  # the line where it begins
        # Strict, or what follows a closing quote would be joined to the cell, and rows after an open quote be swallowed.
        self._reader = csv.reader(self._lines(), delimiter=delimiter, strict=True)

    def _lines(self) -> Iterator[str]:
        limit, held = limits.ROW_LIMIT, self._held
        joined_limit = min(limit, SPAN_LIMIT)
        while line := self._text.readline(limit + 1):
            held.append(line)
            self._length += len(line)
            most = limit if len(held) == 1 else joined_limit
            if self._length > most:
                raise self._fault(f"the row that begins here is too long (more than {most:,} characters)")
            yield line
        self._ended = True

    def records(self) -> Iterator[tuple[list[str] | None, str]]:
        """(cells, the text they were read from) of each record; the cells are None where their quotes are wrong."""
        held = self._held
        while True:
            held.clear()
            self._length = 0
            self._first = self._reader.line_num + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                if self._ended:
                    raise self._fault("a quote that opens here is never closed") from None
                if "expected after" not in str(error):
                    raise self._fault(str(error)) from None
                yield None, self._raw()
                continue
            if cells:
                yield cells, self._raw()

    def _raw(self) -> str:
        return (self._held[0] if len(self._held) == 1 else "".join(self._held)).rstrip("\r\n")

    def header(self) -> list[str] | None:
        """The names of the columns; None where the file is empty."""
        header, raw = next(self.records(), ([], ""))
        if header is None:
            raise self._fault("in the header, text stands behind a closing quote")
        if not header:
            return None
        if not is_utf8(raw):
            raise UsageError(
                f"the header is not UTF-8: {backslashed(raw)}", where=self._file, mend="Save the file as UTF-8."
            )
        if _is_json(raw):
            raise UsageError(f"this is JSON, not {self._kind}", where=self._file, mend="Name it .jsonl or .json.")
        twice = [name for name, count in Counter(header).items() if count > 1]
        if twice:
            named = ", ".join(name or '""' for name in twice[:_MOST_NAMES])
            raise UsageError(f"the header names a column twice: {named}", where=self._file, mend="Rename one of them.")
        others = _OTHER_DELIMITERS.replace(self._delimiter, "")
        if len(header) == 1 and (other := next((d for d in others if d in header[0]), None)):
            log.warning("%s is read as one column; is it divided by %r and no %s?", self._file, other, self._kind)
        return header

    def wrong_length(self, found: int, width: int) -> str:
        """The reason for a record of ``found`` cells under a header of ``width``."""
        last = self._reader.line_num
        hint = f"; it spans lines {self._first} to {last}: is a quote not closed?" if last > self._first else ""
        return f"the row has {found} cells, the header {width}{hint}"

    def _fault(self, what: str) -> UsageError:
        mend = "A quote within a quoted cell is written twice; a cell with one open quote takes in all that follows."
        return UsageError(f"not {self._kind}: {what}", where=f"{self._file}, line {self._first}", mend=mend)
