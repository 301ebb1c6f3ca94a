"""Record batches as rows of Python values: exact also where Python's own types are too small for Arrow's."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Callable
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any

from registry.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # in a second
_DAY_S = 86_400
_ERA_S = 146_097 * _DAY_S  # 400 years, after which the calendar repeats itself
_YEAR_1 = datetime.datetime(1, 1, 1, tzinfo=datetime.UTC)
_SECONDS_TO_1970 = 719_162 * _DAY_S


class TimeText(str):
    """A date or a time that Python cannot hold (nanoseconds, years beyond 9999), as ISO 8601 text."""

    __slots__ = ()


class Seconds(float):
    """A duration that ``timedelta`` cannot hold, in seconds."""

    __slots__ = ()


def rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Each row of a batch as a dict. Maps are dicts unless a key comes twice, then lists of pairs.

    Unlike ``to_pylist`` this needs no pandas, cuts no nanoseconds and knows years beyond 9999 (as ``TimeText``).
    Raises ``UsageError`` where two columns have one name.
    """
    names = batch.schema.names
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise UsageError(f"two columns have one name: {', '.join(twice)}", mend="Rename one of them first.")
    if not names:
        return [{} for _ in range(batch.num_rows)]
    columns = [values_of(column) for column in batch.columns]
    return list(map(dict, map(zip, repeat(names), zip(*columns, strict=True))))  # a third less time than a loop


def values_of(array: pa.Array) -> list[Any]:
    """The values of an array (see ``rows_of``); null is None."""
    import pyarrow as pa

    kind, types = array.type, pa.types
    if is_plain(kind):
        return array.to_pylist()
    if isinstance(kind, pa.BaseExtensionType):
        return values_of(array.storage)
    if types.is_dictionary(kind):
        known = values_of(array.dictionary)
        return [None if index is None else known[index] for index in array.indices.to_pylist()]
    if types.is_run_end_encoded(kind):
        import pyarrow.compute as pc

        return values_of(pc.run_end_decode(array))
    if types.is_struct(kind):
        return _objects(array)
    if types.is_map(kind):
        return [None if pairs is None else _object_or_pairs(pairs) for pairs in _map_pairs(array)]
    if types.is_union(kind):
        return array.to_pylist()
    if types.is_nested(kind):  # lists of all kinds
        return _lists(array)
    return _times(array)


def is_plain(kind: pa.DataType) -> bool:
    """Whether pyarrow itself gives all values of a type exactly."""
    import pyarrow as pa

    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return not types.is_nested(kind.storage_type) and is_plain(kind.storage_type)
    if types.is_dictionary(kind):
        return is_plain(kind.value_type)
    if types.is_struct(kind):
        return all(is_plain(field.type) for field in kind)
    if types.is_map(kind) or types.is_union(kind) or types.is_run_end_encoded(kind) or types.is_temporal(kind):
        return False
    return not types.is_nested(kind) or is_plain(kind.value_type)


def _objects(array: Any) -> list[Any]:
    names = [field.name for field in array.type]
    gone = array.is_null().to_pylist() if array.null_count or not names else None
    if not names:
        return [None if missing else {} for missing in gone or ()]
    columns = [values_of(child) for child in array.flatten()]
    found: list[Any] = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    return found if gone is None else [None if no else value for value, no in zip(found, gone, strict=True)]


def _lists(array: Any) -> list[Any]:
    import pyarrow.compute as pc

    items = iter(values_of(array.flatten()))
    lengths = pc.list_value_length(array).to_pylist()
    return [None if length is None else list(islice(items, length)) for length in lengths]


def _map_pairs(array: Any) -> list[list[tuple[Any, Any]] | None]:
    pairs = list(zip(values_of(array.keys), values_of(array.items), strict=True))
    offsets = array.offsets.to_pylist()
    gone = array.is_null().to_pylist()
    return [None if no else pairs[offsets[i] : offsets[i + 1]] for i, no in enumerate(gone)]


def _object_or_pairs(pairs: list[tuple[Any, Any]]) -> Any:
    """A map as a dict by the text of its keys; a key met twice would be lost, so it stays a list of pairs then."""
    found = {_key_text(key): value for key, value in pairs}
    return found if len(found) == len(pairs) else [list(pair) for pair in pairs]


def _key_text(key: Any) -> str:
    if isinstance(key, str):
        return str(key)
    if isinstance(key, datetime.date | datetime.time):
        return key.isoformat()
    return base64.b64encode(key).decode("ascii") if isinstance(key, bytes) else str(key)


def _times(array: Any) -> list[Any]:
    """Times, in Python's own types wherever those hold them exactly."""
    import pyarrow as pa

    kind, types = array.type, pa.types
    if types.is_interval(kind):
        return [None if value is None else _interval(*value) for value in array.to_pylist()]
    try:
        if getattr(kind, "unit", "us") == "ns":
            array = array.cast(_in_microseconds(kind))  # pyarrow itself cuts times of a day, and asks for pandas else
        return array.to_pylist()
    except (
        ValueError,
        OverflowError,
        LookupError,
    ):  # pa.ArrowInvalid is a ValueError: nanoseconds that count, unknown zones
        pass
    spell = _exact_spelling(kind)
    width = pa.int32() if kind.bit_width == 32 else pa.int64()
    return [None if ticks is None else spell(ticks) for ticks in array.cast(width).to_pylist()]


def _in_microseconds(kind: Any) -> pa.DataType:
    import pyarrow as pa

    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    return pa.time64("us") if pa.types.is_time(kind) else pa.duration("us")


def _exact_spelling(kind: Any) -> Callable[[int], Any]:
    """How to spell ticks of a temporal type that has no Python type of its own."""
    import pyarrow as pa

    types = pa.types
    if types.is_date(kind):
        per_day = 1 if types.is_date32(kind) else _DAY_S * 1000
        return lambda ticks: TimeText(_moment_text(ticks // per_day * _DAY_S, 0, 1, None)[: -len("T00:00:00")])
    per_second = _TICKS[kind.unit]
    if types.is_duration(kind):
        return lambda ticks: Seconds(ticks / per_second)
    if types.is_time(kind):
        return lambda ticks: TimeText(_moment_text(*divmod(ticks, per_second), per_second, None)[len("1970-01-01T") :])
    zone = _zone(kind.tz) if kind.tz else None
    return lambda ticks: TimeText(_moment_text(*divmod(ticks, per_second), per_second, zone))


def _zone(name: str) -> datetime.tzinfo:
    """The zone of a timestamp; a name that this machine does not know is spelled in UTC, which is the same moment."""
    import pyarrow as pa

    try:
        found: datetime.tzinfo = pa.lib.string_to_tzinfo(name)
    except (ValueError, LookupError):
        return datetime.UTC
    return found


def _moment_text(seconds: int, fraction: int, per_second: int, zone: datetime.tzinfo | None) -> str:
    """ISO 8601 as ``datetime.isoformat`` spells it; nine digits for nanoseconds, and ``+12025-…`` beyond its years.

    Moments out of Python's range are spelled as the same place of the calendar 400 years or a multiple of it away,
    where zones follow the rules they end with.
    """
    since_year_1 = seconds + _SECONDS_TO_1970
    era = 0 if _DAY_S <= since_year_1 < 9998 * 365 * _DAY_S else (since_year_1 - 5 * _ERA_S) // _ERA_S
    moment = _YEAR_1 + datetime.timedelta(seconds=since_year_1 - era * _ERA_S)
    text = (moment.astimezone(zone) if zone else moment.replace(tzinfo=None)).isoformat()
    year = int(text[:4]) + era * 400
    spelled = f"{year:04d}" if 0 <= year <= 9999 else f"{year:+05d}"
    return spelled + text[4:19] + _fraction(fraction, per_second) + text[19:]


def _fraction(ticks: int, per_second: int) -> str:
    if not ticks:
        return ""
    nanoseconds = ticks * (10**9 // per_second)
    return f".{nanoseconds:09d}" if nanoseconds % 1000 else f".{nanoseconds // 1000:06d}"


def _interval(months: int, days: int, nanoseconds: int) -> TimeText:
    sign = "-" if nanoseconds < 0 else ""
    seconds, rest = divmod(abs(nanoseconds), 10**9)
    return TimeText(f"P{months}M{days}DT{sign}{seconds}{_fraction(rest, 10**9)}S")
