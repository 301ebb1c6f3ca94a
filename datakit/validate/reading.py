"""Faults of reading: lines that are no row, keys that stand twice, rows that cannot be written again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from datakit.validate.faults import Fault, pointer, shown
from datakit.validate.marks import Marker, keys_in
from datakit.values import encode_row
from registry.errors import RowFault
from registry.rows import BadRow, Row, row_of_line
from registry.rows.head import BOM

# How the reason of a BadRow begins -> its code; the longer beginning first.
_REASONS = (
    ("not JSON: the file ends in the middle", "RD002"),
    ("the row is nested too deep", "RD005"),
    ("a row must be a JSON object", "RD004"),
    ("the row has ", "RD011"),
    ("text stands behind the closing quote", "RD011"),
    ("the row is too long", "RD013"),
    ("not JSON", "RD001"),
)


def fault_of_bad_row(row: BadRow) -> Fault:
    """Why a row could not be read, with its code."""
    if "invalid UTF-8" in row.reason:
        return Fault("RD003", "", row.reason)
    code = next((code for start, code in _REASONS if row.reason.startswith(start)), "RD012")
    return Fault(code, "", row.reason, shown(row.raw))


def read_line(file: str, number: int, line: bytes, *, cut: bool) -> tuple[Row | BadRow, list[Fault]]:
    """The row of one line of JSON, and its faults of reading. ``cut``: it is the file's last and lacks its line break.

    A row behind a byte order mark comes with that fault; so does one with a key twice, where the last value counts.
    """
    row = row_of_line(file, number, line, cut=cut)
    if isinstance(row, Row):
        return row, faults_of_row(row.data) + doubled_keys(line, row.data)
    behind = row_of_line(file, number, line.removeprefix(BOM), cut=cut) if line.startswith(BOM) else row
    if isinstance(behind, Row):
        marked = Fault("RD010", "", "a byte order mark stands before the row", fixable=True)
        return behind, [marked, *faults_of_row(behind.data), *doubled_keys(line, behind.data)]
    return behind, [fault_of_bad_row(behind)]


def faults_of_row(data: Mapping[str, Any]) -> list[Fault]:
    """The fault of a row that was read but cannot be written as JSON again."""
    try:
        encode_row(data, Counter())
    except RowFault as fault:
        return [Fault("RD005" if "too deep" in fault.reason else "RD012", "", fault.reason)]
    return []


def doubled_keys(line: bytes, data: Mapping[str, Any]) -> list[Fault]:
    """The faults of keys that stand twice in one object of a line; ``data`` is what it decoded into."""
    count = keys_in(data)
    # No colon stands off its key, so each key is seen; then as many as in the data are no more, and none stands twice.
    if line.count(b'":') == count and not any(spaced in line for spaced in (b" :", b"\t:", b"\r:")):
        return []
    if len(Marker().marks(line).colons) == count:
        return []
    try:
        return list(_doubled(json.loads(line.removeprefix(BOM), object_pairs_hook=_Pairs), ""))
    except (ValueError, RecursionError):  # no line that decodes, as far as is known
        return [Fault("RD005", "", "the row is nested too deep to be looked through")]


class _Pairs(list[tuple[str, Any]]):
    """An object as the pairs that stand in the text."""


def _doubled(value: Any, place: str) -> Iterator[Fault]:
    if isinstance(value, _Pairs):
        for key, count in Counter(key for key, _ in value).items():
            if count > 1:
                spelled = {json.dumps(one) for name, one in value if name == key}
                differ = "with different values" if len(spelled) > 1 else "with the same value"
                reason = f'the key "{key}" stands {count} times, {differ}'
                yield Fault("RD006", f"{place}{pointer(key)}", reason, fixable=len(spelled) == 1)
        for key, inside in value:
            yield from _doubled(inside, f"{place}{pointer(key)}")
    elif isinstance(value, list):
        for number, inside in enumerate(value):
            yield from _doubled(inside, f"{place}{pointer(number)}")
