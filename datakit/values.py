"""The value policy: the JSON of one row, and what becomes of values that JSON cannot hold."""

from __future__ import annotations

import base64
import datetime
import json
import logging
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal
from types import NoneType
from typing import Any
from uuid import UUID

import orjson

from registry.arrow_rows import Seconds, TimeText
from registry.errors import RowFault

log = logging.getLogger("tunekit")

# What a value can turn into, told once a run with its count; those in LOSSES cannot be turned back.
NON_FINITE = "NaN and infinite numbers became null"
SURROGATE = "lone surrogates (halves of a character) became U+FFFD"
DECIMAL = "decimal numbers became text"
TIME = "dates and times became ISO 8601 text"
DURATION = "durations became seconds"
BINARY = "binary values became base64 text"
EMPTY_OBJECT = "objects without keys became null, as Parquet cannot hold them"
LOSSES = frozenset({NON_FINITE, SURROGATE, EMPTY_OBJECT})

_PLAIN = frozenset({str, int, bool, NoneType})
_SURROGATES = re.compile("[\ud800-\udfff]")


def encode_row(row: Mapping[str, Any], changes: Counter[str]) -> bytes:
    """One row as one line of JSON without its line break; what had to change is counted in ``changes``.

    Raises ``RowFault`` for a row that no JSON can spell (nested hundreds of levels deep, values of unknown kinds).
    """
    try:
        if _is_plain(row.values()):
            try:
                return orjson.dumps(row)
            except TypeError:  # a lone surrogate, a number beyond 64 bits, keys that are no text
                pass
        spelled = tame(row, changes)
        try:
            return orjson.dumps(spelled)
        except TypeError:  # numbers beyond 64 bits, which only the standard library spells
            return json.dumps(spelled, ensure_ascii=False, separators=(",", ":")).encode()
    except RecursionError:
        raise RowFault("row", "the row is nested too deep to be written") from None


def _is_plain(values: Iterable[Any]) -> bool:
    """Whether orjson spells all of this exactly as it is. Most rows are plain, and this look is all they pay."""
    for value in values:
        kind = type(value)
        if kind in _PLAIN:
            continue
        if kind is float:
            if not math.isfinite(value):
                return False
        elif kind is dict:
            if not _is_plain(value.values()):
                return False
        elif kind is not list or not _is_plain(value):
            return False
    return True


def tame(value: Any, changes: Counter[str]) -> Any:
    """``value`` with everything that JSON cannot hold replaced as ``docs/formats.md`` says."""
    kind = type(value)
    if kind is str:
        return _without_surrogates(value, changes)
    if kind in _PLAIN:
        return value
    if kind is TimeText:
        return _changed(str(value), TIME, changes)
    if kind is Seconds:
        return _changed(float(value), DURATION, changes)
    if isinstance(value, Mapping):
        return {_key(k, changes): tame(v, changes) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [tame(v, changes) for v in value]
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        return _changed(None, NON_FINITE, changes)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Decimal):
        return _changed(f"{value:f}", DECIMAL, changes)  # never 1E+3, which is not how the column spells it
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return _changed(value.isoformat(), TIME, changes)
    if isinstance(value, datetime.timedelta):
        return _changed(value.total_seconds(), DURATION, changes)
    if isinstance(value, bytes | bytearray | memoryview):
        return _changed(base64.b64encode(value).decode("ascii"), BINARY, changes)
    if isinstance(value, UUID):
        return str(value)
    raise RowFault("row", f"a value of kind {kind.__name__} cannot be written as JSON")


def _key(key: Any, changes: Counter[str]) -> str:
    if isinstance(key, str):
        return _without_surrogates(key, changes)
    return key.isoformat() if isinstance(key, datetime.date) else str(key)


def _without_surrogates(text: str, changes: Counter[str]) -> str:
    tame, count = _SURROGATES.subn("\ufffd", text)
    changes[SURROGATE] += count
    return tame


def _changed(value: Any, how: str, changes: Counter[str]) -> Any:
    changes[how] += 1
    return value


def tell_changes(changes: Mapping[str, int]) -> None:
    """Log what the value policy changed: a warning for what is lost, a note for what only looks different."""
    for how, count in changes.items():
        if count:
            log.log(logging.WARNING if how in LOSSES else logging.INFO, "%s: %s", how, f"{count:,}")
