"""JSON lines: one object a line; a line that is none costs that row only."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import orjson

from registry.rows import row as limits
from registry.rows.head import BOM
from registry.rows.lines import TooLong, read_lines
from registry.rows.numbers import EXACT, NumberFault
from registry.rows.row import BadRow, Row, too_long, why_not_utf8

TOO_DEEP = "the row is nested too deep"


def read_jsonl(file: str, handle: io.BufferedReader) -> Iterator[Row | BadRow]:
    """A row for each line that is not blank."""
    number = 0
    for lines, ended in read_lines(handle):
        for line in lines:
            number += 1
            if isinstance(line, TooLong):
                yield too_long(file, number, line.text, limits.ROW_LIMIT)
                continue
            try:
                data = decode_json(line)
            except orjson.JSONDecodeError as error:
                if line and not line.isspace():
                    cut = not ended and line is lines[-1]
                    yield BadRow(file, number, _why_not_json(line, error, cut), _raw(line))
                continue
            if type(data) is dict:
                yield Row(file, number, data)
            else:
                yield BadRow(file, number, not_an_object(data), _raw(line))


def row_of_line(file: str, number: int, line: bytes, *, cut: bool = False) -> Row | BadRow:
    """The row that one line of JSON is; ``cut`` says that it is a file's last and lacks its line break."""
    try:
        data = decode_json(line)
    except orjson.JSONDecodeError as error:
        return BadRow(file, number, _why_not_json(line, error, cut), _raw(line))
    return Row(file, number, data) if type(data) is dict else BadRow(file, number, not_an_object(data), _raw(line))


def decode_json(line: bytes) -> Any:
    """The value of one line of JSON, whole numbers exact. Raises ``orjson.JSONDecodeError``."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        if "infinity" not in error.msg:
            raise
        return _exactly(line)  # hundreds of digits, or an exponent beyond what a fraction can be
    # orjson reads whole numbers beyond 64 bits as floats; only lines with such a float pay for a second, exact look.
    try:
        huge = _holds_huge_float(value if type(value) in (dict, list) else [value])
    except RecursionError:  # hundreds of levels deep: whoever writes the row refuses it with a reason
        huge = False
    return _exactly(line) if huge else value


def _exactly(line: bytes) -> Any:
    try:
        return EXACT.decode(line.decode())
    except NumberFault as fault:
        raise orjson.JSONDecodeError(str(fault), "", 0) from None
    except json.JSONDecodeError as error:
        raise orjson.JSONDecodeError(error.msg, error.doc, error.pos) from None
    except RecursionError:
        raise orjson.JSONDecodeError(TOO_DEEP, "", 0) from None


def _holds_huge_float(value: dict[str, Any] | list[Any]) -> bool:
    inner: Any
    for inner in value.values() if type(value) is dict else value:
        kind = type(inner)
        if kind is str:  # as most values are
            continue
        if kind is float:
            if abs(inner) >= 2.0**63:
                return True
        elif (kind is dict or kind is list) and _holds_huge_float(inner):
            return True
    return False


def _why_not_json(line: bytes, error: orjson.JSONDecodeError, cut: bool) -> str:
    if "depth limit" in error.msg or error.msg == TOO_DEEP:
        return TOO_DEEP
    if (reason := why_not_utf8(line)) is not None:
        return reason
    if line.startswith(BOM):
        return "not JSON: a byte order mark stands before the row, as where files were joined"
    if cut and not line.rstrip().endswith((b"}", b"]")):
        return "not JSON: the file ends in the middle of this row"
    return f"not JSON: {error.msg} at column {error.colno}"


def _raw(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace").rstrip()


def not_an_object(data: Any) -> str:
    """The reason for a row that is JSON, but of another kind."""
    names = {list: "an array", str: "a string", int: "a number", float: "a number", bool: "a truth value"}
    return f"a row must be a JSON object, this is {names.get(type(data), 'null')}"
