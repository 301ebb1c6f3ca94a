"""Rows from files, streaming: (file, row number, dict) for each readable row, and the reason for each that is not."""

from __future__ import annotations

import csv
import io
import itertools
import json
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from registry.errors import UsageError, from_os_error
from registry.sources import STDIN, container_of, expand_sources, open_binary

log = logging.getLogger("tunekit")

JSON_CHUNK = 1 << 20  # characters read at a time from a JSON array
JSON_ROW_LIMIT = 1 << 28  # characters; one row of a JSON array larger than this is taken for a broken file
ARROW_BATCH_ROWS = 4096
BOM = b"\xef\xbb\xbf"
_ESCAPED_BYTES = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was read. ``number`` counts from 1: the line in JSONL and text, the record elsewhere."""

    file: str
    number: int
    data: dict[str, Any]

    @property
    def where(self) -> str:
        return f"{self.file}, row {self.number}"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be read: why, and its raw text (bytes that are no UTF-8 as ``\\xNN``)."""

    file: str
    number: int
    reason: str
    raw: str

    @property
    def where(self) -> str:
        return f"{self.file}, row {self.number}"


def read_rows(sources: Iterable[str | Path], *, keep_blank_lines: bool = False) -> Iterator[Row | BadRow]:
    """Every row of every source in order, holding one batch at a time.

    ``keep_blank_lines`` makes blank lines of .txt files rows of empty text, as LLaMA-Factory's loader does.
    Raises ``UsageError`` where a file as a whole cannot be read, or where all sources together hold no row.
    """
    files = expand_sources(sources)
    count = 0
    for file in files:
        try:
            for row in _read_file(file, keep_blank_lines):
                count += 1
                yield row
        except OSError as error:
            raise from_os_error(error, f"reading {file}") from error
    if not count:
        raise UsageError("there is no row in it: the file is empty", where=", ".join(files))


def _read_file(file: str, keep_blank_lines: bool) -> Iterator[Row | BadRow]:
    container = "jsonl" if file == STDIN else container_of(file)
    if container == "parquet":
        yield from _read_parquet(file)
    elif container == "arrow":
        yield from _read_arrow(file)
    else:
        with open_binary(file) as handle:
            if container in ("csv", "tsv"):
                yield from _read_csv(file, handle, "\t" if container == "tsv" else ",")
            elif container == "txt":
                yield from _read_txt(file, handle, keep_blank_lines)
            else:
                yield from _read_json_kinds(file, handle, container or "json")


def _read_json_kinds(file: str, handle: BinaryIO, named: str) -> Iterator[Row | BadRow]:
    """JSON lines, a JSON array, or objects one after another: the content decides, not the file's name."""
    buffered = handle if isinstance(handle, io.BufferedReader) else io.BufferedReader(handle)  # type: ignore[type-var]
    head = buffered.peek(4096)[:4096]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UsageError("the file is UTF-16, not UTF-8", where=file, mend="Save it as UTF-8 and try again.")
    if head.startswith(BOM):
        buffered.read(len(BOM))
        head = head[len(BOM) :]
    first = head.lstrip()[:1]
    if first == b"[":
        if named == "jsonl":
            log.warning("%s is named as JSON lines but holds one JSON array; it is read as an array", file)
        yield from _read_json_values(file, buffered, in_array=True)
        return
    head_line = head.split(b"\n", 1)[0].strip()
    if named == "json" and first == b"{":
        if not _is_json(head_line) and b"\n" in head:
            yield from _read_json_values(file, buffered, in_array=False)
            return
        log.warning("%s is named .json but holds JSON lines; it is read line by line", file)
    yield from _read_jsonl(file, buffered)


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _read_jsonl(file: str, lines: Iterable[bytes]) -> Iterator[Row | BadRow]:
    for number, line in enumerate(lines, start=1):
        if line.isspace():
            continue
        try:
            data = decode_json(line)
        except orjson.JSONDecodeError as error:
            yield BadRow(file, number, _why_not_json(line, error), line.decode("utf-8", "backslashreplace").rstrip())
            continue
        if isinstance(data, dict):
            yield Row(file, number, data)
        else:
            yield BadRow(file, number, _not_an_object(data), line.decode().rstrip())


def decode_json(line: bytes) -> Any:
    """The value of one line of JSON, whole numbers exact. Raises ``orjson.JSONDecodeError``."""
    value = orjson.loads(line)
    # orjson reads whole numbers beyond 64 bits as floats; only lines with such a float pay for a second, exact look.
    try:
        huge = _holds_huge_float(value)
    except RecursionError:  # hundreds of levels deep: whoever writes the row refuses it with a reason
        huge = False
    return json.loads(line, parse_constant=_refuse_constant) if huge else value


def _holds_huge_float(value: Any) -> bool:
    kind = type(value)
    if kind is float:
        return abs(value) >= 2.0**63
    if kind is dict:
        return any(map(_holds_huge_float, value.values()))
    return kind is list and any(map(_holds_huge_float, value))


def _why_not_json(line: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as bad:
        return f"invalid UTF-8: byte 0x{line[bad.start]:02x} at offset {bad.start} of the line"
    if not line.endswith(b"\n") and not line.rstrip().endswith((b"}", b"]")):
        return "not JSON: the file ends in the middle of this row"
    return f"not JSON: {error.msg} at column {error.colno}"


def _not_an_object(data: Any) -> str:
    names = {list: "an array", str: "a string", int: "a number", float: "a number", bool: "a truth value"}
    return f"a row must be a JSON object, this is {names.get(type(data), 'null')}"


def _read_json_values(file: str, handle: BinaryIO, *, in_array: bool) -> Iterator[Row | BadRow]:
    """The elements of one JSON array, or of objects one after another, without holding the file in memory.

    A syntax fault ends it: unlike in JSONL there is no safe place to start again, so the file is refused.
    """
    text = io.TextIOWrapper(handle, encoding="utf-8", errors="surrogateescape", newline="")
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    space = re.compile(r"\s*")
    buffer, at, line, finished = "", 0, 1, False

    def more() -> bool:
        nonlocal buffer, at, line
        chunk = text.read(max(JSON_CHUNK, len(buffer) - at))
        line += buffer.count("\n", 0, at)
        buffer, at = buffer[at:] + chunk, 0
        return bool(chunk)

    def fault(message: str, position: int) -> UsageError:
        row = f"row {number}, line {line + buffer.count(chr(10), 0, position)}"
        return UsageError(
            f"not JSON: {message}", where=f"{file}, {row}", mend="Mend it there; JSON lines would lose only that row."
        )

    number = 0
    more()
    if in_array:
        at = space.match(buffer, 0).end() + 1  # type: ignore[union-attr]  # past the "["
    while True:
        at = space.match(buffer, at).end()  # type: ignore[union-attr]
        if at == len(buffer):
            if more():
                continue
            if in_array and not finished:
                raise fault("the file ends before the array does", at)
            return
        if finished:
            raise fault("there is more text after the end of the array", at)
        if in_array and buffer[at] == "]":
            finished, at = True, at + 1
            continue
        if in_array and number and buffer[at] == ",":
            at += 1
            continue
        number += 1
        while True:
            try:
                value, end = decoder.raw_decode(buffer, at)
                break
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos >= len(buffer) - 16
                if not cut or len(buffer) - at > JSON_ROW_LIMIT or not more():
                    ends = "the file ends in the middle of a row" if cut else error.msg
                    raise fault(ends, min(error.pos, len(buffer))) from None
            except RecursionError:
                raise fault("the row is nested too deep", at) from None
        raw, at = buffer[at:end], end
        escaped = _ESCAPED_BYTES.search(raw)
        if escaped:
            reason = f"invalid UTF-8: byte 0x{ord(escaped.group()) - 0xDC00:02x}"
            yield BadRow(
                file, number, reason, raw.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            )
        elif isinstance(value, dict):
            yield Row(file, number, value)
        else:
            yield BadRow(file, number, _not_an_object(value), raw)


def _refuse_constant(name: str) -> Any:
    raise json.JSONDecodeError(f"{name} is not a JSON number", "", 0)


def _read_csv(file: str, handle: BinaryIO, delimiter: str) -> Iterator[Row | BadRow]:
    """Every cell stays the text it is: guessing types would turn the code 007 into 7."""
    csv.field_size_limit(1 << 30)
    text = io.TextIOWrapper(handle, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(text, delimiter=delimiter)
    header = next(reader, None)
    if not header:
        return
    if len(set(header)) < len(header):
        twice = sorted({name for name in header if header.count(name) > 1})
        raise UsageError(f"the header names a column twice: {', '.join(twice)}", where=file)
    number = 0
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UsageError(
                f"not {'TSV' if delimiter != ',' else 'CSV'}: {error}", where=f"{file}, line {reader.line_num}"
            ) from None
        if not cells:
            continue
        number += 1
        raw = delimiter.join(cells)
        if _ESCAPED_BYTES.search(raw):
            yield BadRow(file, number, "invalid UTF-8", _backslashed(raw))
        elif len(cells) != len(header):
            yield BadRow(file, number, f"the row has {len(cells)} cells, the header {len(header)}", raw)
        else:
            yield Row(file, number, dict(zip(header, cells, strict=True)))


def _backslashed(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _read_txt(file: str, handle: BinaryIO, keep_blank_lines: bool) -> Iterator[Row | BadRow]:
    text = io.TextIOWrapper(handle, encoding="utf-8-sig", errors="surrogateescape")
    for number, line in enumerate(text, start=1):
        line = line.rstrip("\n")
        if _ESCAPED_BYTES.search(line):
            yield BadRow(file, number, "invalid UTF-8", _backslashed(line))
        elif keep_blank_lines or line.strip():
            yield Row(file, number, {"text": line})


def _read_parquet(file: str) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # pre_buffer=False: the default keeps all column chunks in memory and is slower (apache/arrow#39808).
        with pq.ParquetFile(file, pre_buffer=False) as parquet:
            batches = parquet.iter_batches(batch_size=ARROW_BATCH_ROWS)
            yield from _rows_of_batches(file, batches)
    except pa.ArrowInvalid as error:
        raise UsageError(f"cannot be read as Parquet: {_first_line(error)}", where=file) from None


def _read_arrow(file: str) -> Iterator[Row]:
    import pyarrow as pa

    try:
        with pa.memory_map(file) as source:
            try:
                reader = pa.ipc.open_file(source)
                batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            except pa.ArrowInvalid:  # the streaming layout, as `datasets` writes it
                source.seek(0)
                batches = iter(pa.ipc.open_stream(source))
            yield from _rows_of_batches(file, batches)
    except pa.ArrowInvalid as error:
        raise UsageError(f"cannot be read as Arrow: {_first_line(error)}", where=file) from None


def _rows_of_batches(file: str, batches: Iterator[Any]) -> Iterator[Row]:
    numbers = itertools.count(1)
    for batch in batches:
        for data in batch.to_pylist():
            yield Row(file, next(numbers), data)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
