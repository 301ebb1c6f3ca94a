"""What ``_origin`` says of a row that was made from another: which row that was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

ORIGIN = "_origin"
SEED_ROW = "seed_row"
ID = "id"  # the column by which a row may be called


@dataclass(frozen=True, slots=True)
class SeedRef:
    """One seed row as it is named: by its number (from 1) in a file, by its ``id``, or both.

    ``file`` None means the number counts in a file that is not told. At least one of ``row`` and ``id`` is there.
    """

    file: str | None = None
    row: int | None = None
    id: str | None = None

    def __str__(self) -> str:
        place = f"row {self.row}" + (f" of {self.file}" if self.file else "") if self.row is not None else ""
        name = f'id "{self.id}"' if self.id is not None else ""
        return ", ".join(filter(None, (place, name)))


def origin_of(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The ``_origin`` of a row; None where it has none. Tables without objects (CSV) hold it as JSON text."""
    found = data.get(ORIGIN)
    if isinstance(found, str) and found.startswith("{"):
        try:
            found = orjson.loads(found)
        except orjson.JSONDecodeError:
            return None
    return found if isinstance(found, Mapping) else None


def seeds_of(data: Mapping[str, Any]) -> tuple[SeedRef, ...]:
    """The seed rows that a row was made from, none for a row that was not made (or not from a row).

    ``_origin.seed_row`` is a row number, an ``id`` (text), an object with ``file`` and ``row`` or ``id``, or a list of
    these. An object of other keys still is a name: rows with the same one have the same seed.
    """
    origin = origin_of(data)
    seed = origin.get(SEED_ROW) if origin is not None else None
    named = seed if isinstance(seed, list) else [seed]
    return tuple(ref for one in named if (ref := _ref(one)) is not None)


def _ref(seed: Any) -> SeedRef | None:
    if seed is None or seed == "" or isinstance(seed, bool):
        return None
    if isinstance(seed, Mapping):
        row, name, file = _number(seed.get("row")), seed.get(ID), seed.get("file")
        if row is None and name is None:
            return SeedRef(id=_spelled(seed)) if any(value is not None for value in seed.values()) else None
        return SeedRef(str(file) if file else None, row, None if name is None else name_of(name))
    number = _number(seed)
    return SeedRef(row=number) if number is not None else SeedRef(id=name_of(seed))


def _number(value: Any) -> int | None:
    """A whole number; columns of numbers with nulls come as fractions."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) else None


def name_of(value: Any) -> str:
    """A value as the text by which equal ones are known, whatever container they come from: 5, 5.0 and "5" are one."""
    if isinstance(value, str):
        return value
    number = _number(value)
    return str(number) if number is not None else _spelled(value)


def _spelled(value: Any) -> str:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=str).decode()
    except TypeError:  # whole numbers beyond 64 bits, halves of characters, or nested too deep for orjson
        return repr(value)
