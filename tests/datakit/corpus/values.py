"""Values that peers change or lose: each comes out as docs/formats.md says."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tests.datakit.corpus.case import Case, case, rows
from tests.datakit.corpus.columnar import arrow, parquet


def column(name: str, make: Callable[[Any], Any], expected: list[Any], *, as_arrow: bool = False) -> Case:
    """A table of good rows with one more column ``x``, made with pyarrow, and what it becomes."""

    def content() -> Any:
        import pyarrow as pa

        count = len(expected)
        return pa.table({"instruction": ["q"] * count, "output": ["a"] * count, "x": make(pa)})

    file = f"{name}.{'arrow' if as_arrow else 'parquet'}"
    build = arrow(file, "file", make=content) if as_arrow else parquet(file, content)
    told = tuple({"instruction": "q", "output": "a", "x": value} for value in expected)
    return case(file, build, rows(len(expected), len(expected)), to_json=told)


DAY = datetime.date(2024, 2, 29)
MOMENT = datetime.datetime(2024, 2, 29, 12, 30, 5, 250_000)
BIG = 2**63 - 1
CASES: list[Case] = [
    column("int64_with_nulls", lambda pa: pa.array([BIG, None, -BIG - 1]), [BIG, None, -BIG - 1]),
    column("uint64", lambda pa: pa.array([2**64 - 1, None], pa.uint64()), [2**64 - 1, None]),
    column("nan_and_infinity", lambda pa: pa.array([float("nan"), float("inf"), -0.5]), [None, None, -0.5]),
    column("nan_in_lists", lambda pa: pa.array([[float("nan"), 1.5]]), [[None, 1.5]]),
    column("float32", lambda pa: pa.array([0.1, 1.5], pa.float32()), [0.10000000149011612, 1.5]),
    column(
        "decimals",
        lambda pa: pa.array([Decimal("12345678901234567890.10"), None], pa.decimal128(38, 2)),
        ["12345678901234567890.10", None],
    ),
    column("dates", lambda pa: pa.array([DAY, None], pa.date32()), ["2024-02-29", None]),
    column("date_beyond_9999", lambda pa: pa.array([3_000_000], pa.int32()).cast(pa.date32()), ["+10183-09-21"]),
    column("timestamp_us", lambda pa: pa.array([MOMENT], pa.timestamp("us")), ["2024-02-29T12:30:05.250000"]),
    column(
        "timestamp_with_zone",
        lambda pa: pa.array([MOMENT], pa.timestamp("us", "Europe/Berlin")),
        ["2024-02-29T13:30:05.250000+01:00"],
    ),
    column(
        "timestamp_ns",
        lambda pa: pa.array([1_700_000_000_123_456_789, 1_700_000_000_000_000_000], pa.int64()).cast(
            pa.timestamp("ns")
        ),
        ["2023-11-14T22:13:20.123456789", "2023-11-14T22:13:20"],
    ),
    column("binary", lambda pa: pa.array([b"\x00\xff", None]), ["AP8=", None]),
    column(
        "map", lambda pa: pa.array([[("a", 1), ("b", None)]], pa.map_(pa.string(), pa.int64())), [{"a": 1, "b": None}]
    ),
    column("nested_lists", lambda pa: pa.array([[[1], [], None], None]), [[[1], [], None], None]),
    column("objects", lambda pa: pa.array([{"a": {"b": [None, 2]}}, None]), [{"a": {"b": [None, 2]}}, None]),
    column("dictionary", lambda pa: pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
    column("large_text", lambda pa: pa.array(["ä", None], pa.large_string()), ["ä", None]),
    column("text_view", lambda pa: pa.array(["ä" * 20, None], pa.string_view()), ["ä" * 20, None], as_arrow=True),
    column("nulls", lambda pa: pa.nulls(2), [None, None]),
    column(
        "run_ends", lambda pa: pa.RunEndEncodedArray.from_arrays([2, 3], ["a", None]), ["a", "a", None], as_arrow=True
    ),
    column("durations", lambda pa: pa.array([1_500_000_001], pa.duration("ns")), [1.500000001], as_arrow=True),
    column("time_of_day_ns", lambda pa: pa.array([1], pa.time64("ns")), ["00:00:00.000000001"]),
    column("uuid", lambda pa: pa.array([bytes(range(16))], pa.uuid()), ["00010203-0405-0607-0809-0a0b0c0d0e0f"]),
]
