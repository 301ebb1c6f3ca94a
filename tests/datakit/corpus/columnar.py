"""Parquet and Arrow files that are damaged, that lie, or that hold what other readers lose."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.datakit.corpus.case import Build, Case, alpaca, case, refused, rows

NUM_ROWS = 1000


def table(**columns: Any) -> Any:
    """A table of good rows, or of ``columns``."""
    import pyarrow as pa

    if not columns:
        columns = {
            "instruction": [f"q{i}" for i in range(NUM_ROWS)],
            "output": [f"a{i * 7919}" for i in range(NUM_ROWS)],
        }
    return pa.table(columns)


def parquet(name: str, make: Callable[[], Any] = table, **options: Any) -> Build:
    """A table as Parquet."""

    def build(folder: Path) -> None:
        import pyarrow.parquet as pq

        pq.write_table(make(), folder / name, **options)

    return build


def damaged(name: str, damage: Callable[[bytes], bytes], make: Callable[[], Any] = table, **options: Any) -> Build:
    """A table as Parquet whose bytes are changed."""
    write = parquet(name, make, **options)

    def build(folder: Path) -> None:
        write(folder)
        path = folder / name
        path.write_bytes(damage(path.read_bytes()))

    return build


def arrow(
    name: str, layout: str, damage: Callable[[bytes], bytes] = lambda data: data, make: Callable[[], Any] = table
) -> Build:
    """A table as an Arrow ``file`` or ``stream``, in batches of 100 rows."""

    def build(folder: Path) -> None:
        import pyarrow as pa

        content = make()
        with (pa.ipc.new_file if layout == "file" else pa.ipc.new_stream)(str(folder / name), content.schema) as writer:
            writer.write_table(content, max_chunksize=100)
        (folder / name).write_bytes(damage((folder / name).read_bytes()))

    return build


def footer_of(data: bytes) -> int:
    """Where the footer begins."""
    return len(data) - 8 - int(struct.unpack("<I", data[-8:-4])[0])


def varint(number: int) -> bytes:
    """A number as Thrift's compact protocol writes it: zigzag, seven bits a byte."""
    number, found = number * 2, b""
    while number > 0x7F:
        found, number = found + bytes([number & 0x7F | 0x80]), number >> 7
    return found + bytes([number])


def told(count: int, places: slice) -> Callable[[bytes], bytes]:
    """The footer tells of ``count`` rows, at some of the places where it tells of all of them.

    The number stands in the file's own count, in each column's count of values, and in the count of the group.
    """

    def damage(data: bytes) -> bytes:
        start, true = footer_of(data), varint(NUM_ROWS)
        assert len(varint(count)) == len(true)
        at, found = start, []
        while (at := data.find(true, at)) != -1 and at < len(data) - 8:
            found.append(at)
            at += len(true)
        for at in found[places]:
            data = data[:at] + varint(count) + data[at + len(true) :]
        return data

    return damage


def footer_length(length: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:-8] + struct.pack("<I", length) + data[-4:]


def overwritten(at: float, filling: bytes) -> Callable[[bytes], bytes]:
    """Bytes put over the data pages, ``at`` of their way."""

    def damage(data: bytes) -> bytes:
        place = 4 + int((footer_of(data) - 4) * at)
        return data[:place] + filling + data[place + len(filling) :]

    return damage


def moved_up(data: bytes) -> bytes:
    """All pages a byte further down than the footer says."""
    return data[:4] + b"\x00" + data[4:]


def broken_footer(data: bytes) -> bytes:
    start = footer_of(data)
    return data[: start + 10] + b"\xff" * 20 + data[start + 30 :]


def wrong_offsets(data: bytes) -> bytes:
    """The offsets of the first batch's second text are far behind the end of its texts."""
    offsets = struct.pack("<3i", 0, 2, 4)
    at = data.index(offsets)
    return data[: at + 4] + struct.pack("<i", 1 << 30) + data[at + 8 :]


def bad_text() -> Any:
    import pyarrow as pa

    raw = pa.array([b"good", b"caf\xe9", b"good"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    return pa.table({"instruction": text, "output": ["a", "b", "c"]})


def twice_named() -> Any:
    import pyarrow as pa

    return pa.Table.from_arrays(
        [pa.array(["q"]), pa.array(["a"]), pa.array(["b"])], ["instruction", "output", "output"]
    )


def wide(num_columns: int) -> Any:
    names = {f"c{i}": [1, None] for i in range(num_columns - 2)}
    return table(instruction=["q", "q"], output=["a", "b"], **names)


def no_columns() -> Any:
    import pyarrow as pa

    return pa.table({"a": [1, 2, 3]}).select([])


NO = refused("cannot be read as Parquet")
PLAIN = {"compression": "none", "use_dictionary": False}
CASES: list[Case] = [
    case("good.parquet", parquet("good.parquet"), rows(NUM_ROWS, NUM_ROWS)),
    case("many_groups.parquet", parquet("many_groups.parquet", row_group_size=7), rows(NUM_ROWS, NUM_ROWS)),
    case("no_rows.parquet", parquet("no_rows.parquet", lambda: table().slice(0, 0)), refused("empty")),
    case("no_columns.parquet", parquet("no_columns.parquet", no_columns), refused("no_columns.parquet")),
    case("empty.parquet", b"", NO),
    case("magic_only.parquet", b"PAR1", NO),
    case("two_magics.parquet", b"PAR1PAR1", NO),
    case("zeros.parquet", b"\x00" * 4096, NO),
    case("no_footer.parquet", damaged("no_footer.parquet", lambda data: data[: footer_of(data)]), NO),
    case("cut.parquet", damaged("cut.parquet", lambda data: data[: len(data) // 2]), NO),
    case("cut_by_one_byte.parquet", damaged("cut_by_one_byte.parquet", lambda data: data[:-1]), NO),
    case("head_lost.parquet", damaged("head_lost.parquet", lambda data: data[len(data) // 2 :]), NO),
    case("footer_length_huge.parquet", damaged("footer_length_huge.parquet", footer_length(0xFFFFFFFF)), NO),
    case("footer_length_wrong.parquet", damaged("footer_length_wrong.parquet", footer_length(20)), NO),
    case("footer_length_zero.parquet", damaged("footer_length_zero.parquet", footer_length(0)), NO),
    case("footer_broken.parquet", damaged("footer_broken.parquet", broken_footer), NO),
    case(
        "footer_tells_of_more_rows.parquet", damaged("footer_tells_of_more_rows.parquet", told(1500, slice(0, 1))), NO
    ),
    case(
        "footer_tells_of_fewer_rows.parquet", damaged("footer_tells_of_fewer_rows.parquet", told(900, slice(0, 1))), NO
    ),
    case(
        "group_tells_of_fewer_rows.parquet",
        damaged("group_tells_of_fewer_rows.parquet", told(900, slice(-1, None))),
        NO,
    ),
    case(
        "column_tells_of_fewer_rows.parquet",
        damaged("column_tells_of_fewer_rows.parquet", told(900, slice(1, 2))),
        rows(NUM_ROWS, NUM_ROWS),  # nobody asks the column
    ),
    case("all_tell_of_more_rows.parquet", damaged("all_tell_of_more_rows.parquet", told(1500, slice(None))), NO),
    case(
        "all_tell_of_fewer_rows.parquet",
        damaged("all_tell_of_fewer_rows.parquet", told(900, slice(None))),
        rows(900, 900),
    ),
    case("offsets_wrong.parquet", damaged("offsets_wrong.parquet", moved_up, **PLAIN), NO),
    case("page_of_zeros.parquet", damaged("page_of_zeros.parquet", overwritten(0.0, b"\x00" * 64)), NO),
    case("page_of_ones.parquet", damaged("page_of_ones.parquet", overwritten(0.0, b"\xff" * 64), **PLAIN), NO),
    case(
        "page_damaged.parquet",
        damaged("page_damaged.parquet", overwritten(0.3, b"\x00\xff" * 100), compression="zstd"),
        NO,
    ),
    case("lengths_damaged.parquet", damaged("lengths_damaged.parquet", overwritten(0.3, b"\xff" * 40), **PLAIN), NO),
    case("no_utf8.parquet", parquet("no_utf8.parquet", bad_text), rows(3, 2, "UTF-8")),
    case("twice_named.parquet", parquet("twice_named.parquet", twice_named), refused("output")),
    case("5000_columns.parquet", parquet("5000_columns.parquet", lambda: wide(5_000)), rows(2, 2)),
    case(
        "long_text.parquet",
        parquet("long_text.parquet", lambda: table(**{k: [v] for k, v in alpaca("x" * 5_000_000).items()})),
        rows(1, 1),
    ),
    # --- Arrow
    case("file.arrow", arrow("file.arrow", "file"), rows(NUM_ROWS, NUM_ROWS)),
    case("stream.arrow", arrow("stream.arrow", "stream"), rows(NUM_ROWS, NUM_ROWS)),
    case("empty.arrow", b"", refused("cannot be read as Arrow")),
    case("magic_only.arrow", b"ARROW1\x00\x00", refused("cannot be read as Arrow")),
    case(
        "file_cut.arrow",
        arrow("file_cut.arrow", "file", lambda data: data[: len(data) // 2]),
        refused("cannot be read as Arrow"),
    ),
    case(
        "stream_cut.arrow",
        arrow("stream_cut.arrow", "stream", lambda data: data[: len(data) // 2]),
        refused("cannot be read as Arrow"),
    ),
    case(
        "offsets_wrong.arrow", arrow("offsets_wrong.arrow", "file", wrong_offsets), refused("cannot be read as Arrow")
    ),
    case("no_utf8.arrow", arrow("no_utf8.arrow", "stream", make=bad_text), rows(3, 2, "UTF-8")),
    case("twice_named.arrow", arrow("twice_named.arrow", "file", make=twice_named), refused("output")),
]
