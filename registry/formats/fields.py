"""Reading one field of a row with the fault named: what all source formats share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

from registry.errors import RowFault

KINDS = {str: "text", bool: "a truth value", int: "a number", float: "a number", list: "a list", dict: "an object"}


def kind_of(value: Any) -> str:
    """``value`` in words for an error: its kind and the start of it."""
    if value is None:
        return "null"
    try:
        start = str(value)[:40]
    except RecursionError:
        start = "nested too deep to be shown"
    return f"{KINDS.get(type(value), type(value).__name__)} ({start})"


def optional_text(row: Mapping[str, Any], column: str | None) -> str:
    """The text of an optional field; absent and null read as empty. Raises ``RowFault`` for anything but text."""
    value = row.get(column) if column else None
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowFault(str(column), f"text belongs here, not {kind_of(value)}")
    return value


def required(row: Mapping[str, Any], column: str | None, kind: type, expected: str) -> Any:
    """The value of a field that must be there and be of ``kind``, named ``expected`` in the ``RowFault``."""
    if column is None or column not in row:
        raise RowFault(str(column), "the field is missing")
    value = row[column]
    if not isinstance(value, kind):
        raise RowFault(column, f"{expected} belongs here, not {kind_of(value)}")
    return value


def json_value(text: str, field: str, what: str = "") -> Any:
    """The value of a JSON text, whole numbers of any size exact. Raises ``RowFault`` naming ``field``."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:  # also a number of thousands of digits, which Python refuses
        raise RowFault(field, f"{what}not JSON: {getattr(error, 'msg', error)}") from None
    except RecursionError:
        raise RowFault(field, f"{what}not JSON: nested too deep") from None


def _refuse_constant(name: str) -> Any:
    raise json.JSONDecodeError(f"{name} is not a JSON number", "", 0)


def json_text(value: Any, field: str) -> str:
    """``value`` as compact JSON text, whole numbers of any size kept. Raises ``RowFault`` naming ``field``."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # numbers beyond 64 bits, halves of characters
        pass
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise RowFault(field, "it holds a value that JSON text cannot spell") from None
