"""Compressed files that are cut, damaged or none, and files that only their name makes rows."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.datakit.corpus.case import GOOD, Build, Case, alpaca, case, refused, rows

MANY = b"".join(json.dumps(alpaca(f"{i * 7919 % 10007}")).encode() + b"\n" for i in range(20_000))


def gz(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def built(name: str, make: Callable[[], bytes]) -> Build:
    """A file whose content is made when it is asked for: pyarrow is slow to load."""

    def build(folder: Path) -> None:
        (folder / name).write_bytes(make())

    return build


def frame(data: bytes) -> bytes:
    import pyarrow as pa

    return bytes(pa.compress(data, codec="zstd", asbytes=True))


def zip_of(data: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(zipfile.ZipInfo("rows.json"), data)
    return target.getvalue()


def sqlite(folder: Path) -> None:
    with sqlite3.connect(folder / "sqlite.json") as database:
        database.execute("create table rows (instruction text, output text)")


def parquet_bytes() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = pa.BufferOutputStream()
    pq.write_table(pa.table({"instruction": ["q"], "output": ["a"]}), target)
    return target.getvalue().to_pybytes()


def changed(data: bytes, at: int) -> bytes:
    """One byte of ``data`` turned around."""
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


CUT = refused("cut off or damaged")
CASES: list[Case] = [
    case("good.jsonl.gz", gz(GOOD * 2), rows(2, 2)),
    case("members.jsonl.gz", gz(GOOD) + gz(GOOD * 2), rows(3, 3)),
    case("row_over_two_members.jsonl.gz", gz(GOOD[:9]) + gz(GOOD[9:]), rows(1, 1)),
    case("padded_with_zeros.jsonl.gz", gz(GOOD) + b"\x00" * 512, rows(1, 1)),
    case("garbage_behind.jsonl.gz", gz(GOOD) + b"garbage", refused("garbage_behind.jsonl.gz")),
    case("cut.jsonl.gz", gz(MANY)[:-2000], CUT),
    case("cut_in_the_last_bytes.jsonl.gz", gz(GOOD)[:-4], CUT),
    case("head_only.jsonl.gz", gz(GOOD)[:10], CUT),
    case("damaged.jsonl.gz", changed(gz(MANY), 20_000), refused("damaged.jsonl.gz")),
    case("wrong_checksum.jsonl.gz", changed(gz(GOOD), -6), refused("CRC")),
    case("none.jsonl.gz", GOOD, refused("none.jsonl.gz")),
    case("empty.jsonl.gz", b"", refused("empty.jsonl.gz")),
    case("empty_inside.jsonl.gz", gz(b""), refused("empty")),
    case("twice.jsonl.gz", gz(gz(GOOD)), refused("gzip")),
    case("named_otherwise.jsonl", gz(GOOD), rows(1, 1)),
    case("zstd_named_gzip.jsonl.gz", built("zstd_named_gzip.jsonl.gz", lambda: frame(GOOD)), rows(1, 1)),
    case("good.jsonl.zst", built("good.jsonl.zst", lambda: frame(GOOD * 2)), rows(2, 2)),
    case("frames.jsonl.zst", built("frames.jsonl.zst", lambda: frame(GOOD) + frame(GOOD * 2)), rows(3, 3)),
    case("cut.jsonl.zst", built("cut.jsonl.zst", lambda: frame(MANY)[:-500]), CUT),
    case(
        "cut_between_frames.jsonl.zst",
        built("cut_between_frames.jsonl.zst", lambda: frame(GOOD) + frame(GOOD)[:5]),
        CUT,
    ),
    case("garbage_behind.jsonl.zst", built("garbage_behind.jsonl.zst", lambda: frame(GOOD) + b"garbage"), CUT),
    case("damaged.jsonl.zst", built("damaged.jsonl.zst", lambda: changed(frame(MANY), 10)), CUT),
    case("none.jsonl.zst", GOOD, refused("none.jsonl.zst")),
    case("array.json.gz", gz(json.dumps([alpaca()] * 2).encode()), rows(2, 2)),
    case("cut.csv.gz", gz(b"instruction,output\n" + b"q,a\n" * 20_000)[:-50], CUT),
    case("table.parquet.gz", built("table.parquet.gz", lambda: gz(parquet_bytes())), rows(1, 1)),
    # --- other kinds of files
    case("zip.json", zip_of(GOOD), refused("zip")),
    case("zip.csv", zip_of(GOOD), refused("zip")),
    case("zip.parquet", zip_of(GOOD), refused("zip")),
    case("parquet.json", built("parquet.json", parquet_bytes), refused("Parquet")),
    case("parquet.csv", built("parquet.csv", parquet_bytes), refused("Parquet")),
    case("sqlite.json", sqlite, refused("SQLite")),
    case("pdf.txt", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", refused("PDF")),
    case("spreadsheet.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 504, refused("Office")),
    case("array.npy.json", b"\x93NUMPY\x01\x00v\x00{'descr'", refused("NumPy")),
    case("web_page.json", b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>\n", refused("web page")),
    case(
        "pointer.jsonl",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        refused("git lfs pull"),
    ),
    case(
        "pointer.parquet",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        refused("git lfs pull"),
    ),
    case("jsonl.parquet", GOOD, refused("cannot be read as Parquet")),
    case("jsonl.arrow", GOOD, refused("cannot be read as Arrow")),
    case("csv.jsonl", b"instruction,output\nq,a\n", rows(2, 0, "not JSON")),
    case("jsonl.csv", GOOD * 2, refused("this is JSON")),
    case("array.csv", b"[\n" + GOOD + b"]", refused("this is JSON")),
]
