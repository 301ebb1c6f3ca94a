"""Batches as rows of Python values: every Arrow type exact, with no help from pandas."""

from __future__ import annotations

import datetime
from decimal import Decimal
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.arrow_rows import Seconds, TimeText, rows_of, values_of
from registry.errors import UsageError

UTC = datetime.UTC
SHANGHAI = "Asia/Shanghai"


def moment(*args):
    return datetime.datetime(*args, tzinfo=UTC)


@pytest.mark.parametrize(
    ("array", "values"),
    [
        (pa.array([2**64 - 1, None], pa.uint64()), [2**64 - 1, None]),
        (pa.array([2**62 + 1, None], pa.int64()), [2**62 + 1, None]),
        (pa.array([Decimal("1.10"), Decimal(0)], pa.decimal128(5, 2)), [Decimal("1.10"), Decimal("0.00")]),
        (pa.array([b"\x00\xff"], pa.binary_view()), [b"\x00\xff"]),
        (pa.array(["a", None], pa.string_view()), ["a", None]),
        (pa.array(["a", None, "b"]).dictionary_encode(), ["a", None, "b"]),
        (pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), ["a", None]), ["a", "a", None]),
        (pa.nulls(2), [None, None]),
        (pa.array([[1, 2], None, []], pa.list_view(pa.int8())), [[1, 2], None, []]),
        (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), [[1, 2], None]),
        (pa.array([{"a": 1}, None, {"a": None}]), [{"a": 1}, None, {"a": None}]),
        (pa.array([{}, None], pa.struct([])), [{}, None]),
        (pa.array([b"\x00" * 15 + b"\x01"], pa.uuid()), [UUID(int=1)]),
        (pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0], pa.int8())), [True, False]),
        (pa.array([0.1], pa.float32()), [0.10000000149011612]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_values_come_as_they_are(array, values):
    assert values_of(array) == values
    assert values_of(array.slice(1)) == values[1:]


@pytest.mark.parametrize(
    ("ticks", "kind", "value"),
    [
        (1_500, pa.timestamp("ms"), datetime.datetime(1970, 1, 1, 0, 0, 1, 500_000)),
        (1_000, pa.timestamp("ns"), datetime.datetime(1970, 1, 1, 0, 0, 0, 1)),
        (1_001, pa.timestamp("ns"), TimeText("1970-01-01T00:00:00.000001001")),
        (1_001, pa.timestamp("ns", SHANGHAI), TimeText("1970-01-01T08:00:00.000001001+08:00")),
        (-1, pa.timestamp("ns", "UTC"), TimeText("1969-12-31T23:59:59.999999999+00:00")),
        (5, pa.timestamp("us", "Nowhere/Known"), TimeText("1970-01-01T00:00:00.000005+00:00")),
        (253_402_300_800, pa.timestamp("s"), TimeText("+10000-01-01T00:00:00")),
        (253_402_300_800, pa.timestamp("s", SHANGHAI), TimeText("+10000-01-01T08:00:00+08:00")),
        (-62_135_596_801, pa.timestamp("s"), TimeText("0000-12-31T23:59:59")),
        (-62_167_219_201, pa.timestamp("s"), TimeText("-0001-12-31T23:59:59")),
        (2_932_897, pa.date32(), TimeText("+10000-01-01")),
        (86_400_000, pa.date64(), datetime.date(1970, 1, 2)),
        (1, pa.time64("ns"), TimeText("00:00:00.000000001")),
        (3_600, pa.time32("s"), datetime.time(1)),
        (1_000, pa.duration("ns"), datetime.timedelta(microseconds=1)),
        (1_001, pa.duration("ns"), Seconds(1.001e-06)),
        (2**62, pa.duration("s"), Seconds(2.0**62)),
        ((14, 2, -1_500_000_000), pa.month_day_nano_interval(), TimeText("P14M2DT-1.500000S")),
    ],
    ids=str,
)
def test_times_are_pythons_own_where_those_hold_them_and_text_where_not(ticks, kind, value):
    array = (
        pa.array([ticks, None], kind)
        if isinstance(ticks, tuple)
        else pa.array([ticks, None]).cast(_width(kind)).view(kind)
    )
    (found, missing) = values_of(array)
    assert (found, type(found), missing) == (value, type(value), None)


def _width(kind: pa.DataType) -> pa.DataType:
    return pa.int32() if kind.bit_width == 32 else pa.int64()


@given(
    st.datetimes(datetime.datetime(1, 1, 2), datetime.datetime(9999, 12, 30)),
    st.sampled_from(["us", "ns"]),
    st.sampled_from([None, "UTC", "+08:00", SHANGHAI, "America/New_York"]),
)
def test_text_of_a_time_is_spelled_as_pythons_own(time, unit, zone):
    """What cannot be had from Python is spelled by us; so it is checked on what can be had from both."""
    from registry.arrow_rows import _moment_text, _zone

    since = (time - datetime.datetime(1970, 1, 1)) // datetime.timedelta(microseconds=1)
    per_second = {"us": 10**6, "ns": 10**9}[unit]
    info = _zone(zone) if zone else None
    expected = time.replace(tzinfo=UTC).astimezone(info) if info else time
    text = _moment_text(*divmod(since * (per_second // 10**6), per_second), per_second, info)
    if 1 < expected.year < 9990:
        assert text == expected.isoformat()


def test_maps_are_objects_unless_a_key_comes_twice():
    kind = pa.map_(pa.string(), pa.int64())
    array = pa.array([[("a", 1), ("b", None)], None, [], [("a", 1), ("a", 2)]], kind)
    assert values_of(array) == [{"a": 1, "b": None}, None, {}, [["a", 1], ["a", 2]]]
    assert values_of(array.slice(1, 2)) == [None, {}]


def test_keys_that_are_no_text_become_text():
    assert values_of(pa.array([[(7, "x")]], pa.map_(pa.int64(), pa.string()))) == [{"7": "x"}]
    day = datetime.date(2025, 1, 8)
    assert values_of(pa.array([[(day, "x")]], pa.map_(pa.date32(), pa.string()))) == [{"2025-01-08": "x"}]
    assert values_of(pa.array([[(b"\x00", "x")]], pa.map_(pa.binary(), pa.string()))) == [{"AA==": "x"}]


def test_what_is_within_lists_objects_and_maps_is_exact_too():
    nanos = pa.timestamp("ns")
    array = pa.array(
        [{"l": [1], "m": [("k", 1)]}, None],
        pa.struct([("l", pa.list_(pa.int64())), ("m", pa.map_(pa.string(), pa.int64()))]),
    ).cast(pa.struct([("l", pa.list_(nanos)), ("m", pa.map_(pa.string(), nanos))]))
    one = TimeText("1970-01-01T00:00:00.000000001")
    assert values_of(array) == [{"l": [one], "m": {"k": one}}, None]


def test_rows_are_dicts_by_column():
    batch = pa.record_batch({"a": [1, 2], "b": ["x", None]})
    assert rows_of(batch) == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    assert rows_of(pa.record_batch([], names=[])) == []


def test_a_name_that_two_columns_have_is_refused():
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    with pytest.raises(UsageError, match="two columns have one name: a"):
        rows_of(batch)
