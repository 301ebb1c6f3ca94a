"""JSON values one after another, in an array or bare, without holding the file in memory."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from registry.errors import UsageError
from registry.rows import row as limits
from registry.rows.jsonl import TOO_DEEP, not_an_object
from registry.rows.numbers import EXACT, NumberFault
from registry.rows.row import BadRow, Row, backslashed, is_utf8, too_long

CHUNK = 1 << 20  # characters read at a time
_SPACE = re.compile(r"[ \t\n\r]*")
_NO_SIGN = re.compile(r'[^"\[\]{}]*')
_IN_STRING = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_SCALAR = re.compile(r"[^,\]}\s]*")
_ESCAPED_BYTES = re.compile("[\udc80-\udcff]")


def read_json_values(file: str, handle: BinaryIO, *, in_array: bool) -> Iterator[Row | BadRow]:
    """The elements of one JSON array, or the objects one after another.

    A row that is too long, too deep or holds a number beyond all bounds costs that row only. A syntax fault ends it:
    unlike in JSONL there is no safe place to start again, so the file is refused with ``UsageError``.
    """
    text = _JsonText(file, handle)
    if in_array:
        text.next_sign()
        text.at += 1  # past the "["
    while (sign := text.next_sign()) and not (in_array and sign == "]"):
        if in_array and text.number:
            if sign != ",":
                raise text.fault("a comma or the end of the array belongs here", text.at)
            text.at += 1
            text.next_sign()
        text.number += 1
        yield _row(file, text)
    if in_array:
        if not sign:
            raise text.fault("the file ends before the array does", text.at)
        text.at += 1
        if text.next_sign():
            raise text.fault("there is more text after the end of the array", text.at)


def _row(file: str, text: _JsonText) -> Row | BadRow:
    try:
        value, raw = text.value()
    except _Unheld as refused:
        start = backslashed(text.skip())
        if refused.reason is None:
            return too_long(file, text.number, start, limits.ROW_LIMIT)
        return BadRow(file, text.number, refused.reason, start)
    if not is_utf8(raw):
        found = _ESCAPED_BYTES.search(raw)
        byte = ord(found.group()) - 0xDC00 if found else 0
        return BadRow(file, text.number, f"invalid UTF-8: byte 0x{byte:02x}", backslashed(raw))
    return (
        Row(file, text.number, value) if type(value) is dict else BadRow(file, text.number, not_an_object(value), raw)
    )


class _Unheld(Exception):
    """The value that begins here cannot be held, for a reason; None is its length."""

    def __init__(self, reason: str | None) -> None:
        super().__init__(reason)
        self.reason = reason


class _JsonText:
    """A JSON text read piece by piece: what is ``held`` in memory, the place ``at`` which it is read, the row's number."""

    def __init__(self, file: str, handle: BinaryIO) -> None:
        self._file = file
        self._text = io.TextIOWrapper(handle, encoding="utf-8", errors="surrogateescape", newline="")
        self._line = 1  # where what is held begins
        self.held, self.at, self.number = "", 0, 0

    def more(self) -> bool:
        """Let go of what was read and read on; False at the end of the file."""
        chunk = self._text.read(max(CHUNK, len(self.held) - self.at))
        self._line += self.held.count("\n", 0, self.at)
        self.held, self.at = self.held[self.at :] + chunk, 0
        return bool(chunk)

    def next_sign(self) -> str:
        """The next character that is no space, left in place; empty at the end of the file."""
        while True:
            self.at = _SPACE.match(self.held, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.held):
                return self.held[self.at]
            if not self.more():
                return ""

    def value(self) -> tuple[Any, str]:
        """The value that begins here, and its text. Raises ``UsageError``, or ``_Unheld`` with the place as it was."""
        while True:
            start = self.at
            try:
                value, end = EXACT.raw_decode(self.held, start)
            except RecursionError:
                raise _Unheld(TOO_DEEP) from None
            except json.JSONDecodeError as error:
                where = max(error.pos - start, 0)
                open_string = error.msg.startswith("Unterminated string")
                may_be_cut = open_string or (error.doc and error.pos >= len(self.held) - 16)
                if may_be_cut and len(self.held) - start > limits.ROW_LIMIT:
                    raise _Unheld(None) from None
                if may_be_cut and self.more():
                    continue
                cut = open_string or self.at + where >= len(self.held.rstrip())
                message = "the file ends in the middle of a row" if cut else error.msg
                raise self.fault(message, self.at + where) from None
            except NumberFault as fault:
                if self.held[-1] in "0123456789.eE+-" and len(self.held) - start <= limits.ROW_LIMIT and self.more():
                    continue  # the number may go on
                raise _Unheld(f"not JSON: {fault}") from None
            # A number may go on after what is held: "1" may become "1.5", and "1e+" ends in signs of a longer one.
            if len(self.held) - end < 3 and not isinstance(value, dict | list | str) and self.more():
                continue
            raw = self.held[self.at : self.at + end - start]
            self.at += end - start
            return value, raw

    def skip(self) -> str:
        """Pass over the value that begins here, whatever it holds; return how it begins. Raises ``UsageError``."""
        start = self.held[self.at : self.at + limits.RAW_KEPT]
        if start[:1] not in ('"', "{", "["):
            self._pass_over(_SCALAR)
            return start
        depth = 0
        while True:
            sign = self._pass_over(_NO_SIGN)
            self.at += 1
            if sign == '"':
                self._pass_over(_IN_STRING)
                self.at += 1
            else:
                depth += 1 if sign in "{[" else -1
            if depth <= 0:
                return start

    def _pass_over(self, pattern: re.Pattern[str]) -> str:
        """Go to the first place that ``pattern`` does not cover; return the character there."""
        while True:
            self.at = pattern.match(self.held, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.held) and self.held[self.at] != "\\":
                return self.held[self.at]
            if not self.more():
                raise self.fault("the file ends in the middle of a row", self.at)

    def fault(self, message: str, place: int) -> UsageError:
        """The error for what is wrong at ``place`` in what is held."""
        row = f"row {self.number}, line {self._line + self.held.count(chr(10), 0, place)}"
        mend = "Mend it there; JSON lines would lose only that row."
        return UsageError(f"not JSON: {message}", where=f"{self._file}, {row}", mend=mend)
