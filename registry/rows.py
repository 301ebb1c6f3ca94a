"""Rows from files, streaming: (file, row number, dict) for each readable row, and the reason for each that is not."""

from __future__ import annotations

import csv
import io
import itertools
import json
import logging
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from registry.errors import UsageError, from_os_error
from registry.sources import STDIN, container_of, expand_sources, open_binary

log = logging.getLogger("tunekit")

JSON_CHUNK = 1 << 20  # characters read at a time from a JSON array
JSON_ROW_LIMIT = 1 << 28  # characters; one row of a JSON array larger than this is taken for a broken file
ARROW_BATCH_ROWS = 4096
BOM = b"\xef\xbb\xbf"
_ESCAPED_BYTES = re.compile("[\udc80-\udcff]")
_SPACE = re.compile(r"\s*")


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
        except (EOFError, zlib.error) as error:
            raise UsageError(f"the compressed file is cut off or damaged: {error}", where=file) from None
    if not count:
        raise UsageError("there is no row in it: the file is empty", where=", ".join(files))


def _read_file(file: str, keep_blank_lines: bool) -> Iterator[Row | BadRow]:
    container = "jsonl" if file == STDIN else container_of(file)
    if container == "parquet":
        yield from _read_parquet(file)
    elif container == "arrow":
        yield from _read_arrow(file)
    else:
        with open_binary(file) as opened:
            handle: Any = opened if isinstance(opened, io.BufferedReader) else io.BufferedReader(cast(Any, opened))
            if handle.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise UsageError("the file is UTF-16, not UTF-8", where=file, mend="Save it as UTF-8 and try again.")
            if container in ("csv", "tsv"):
                yield from _read_csv(file, handle, "\t" if container == "tsv" else ",")
            elif container == "txt":
                yield from _read_txt(file, handle, keep_blank_lines)
            else:
                yield from _read_json_kinds(file, handle, container or "json")


def _read_json_kinds(file: str, buffered: io.BufferedReader, named: str) -> Iterator[Row | BadRow]:
    """JSON lines, a JSON array, or objects one after another: the content decides, not the file's name."""
    head = buffered.peek(4096)[:4096]
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
    text = _JsonText(file, handle)
    if in_array:
        text.next_sign()
        text.at += 1  # past the "["
    while (sign := text.next_sign()) and not (in_array and sign == "]"):
        if in_array and text.number:
            if sign != ",":
                raise text.fault("a comma or the end of the array belongs here", text.at)
            text.at += 1
            text.next_sign()
        text.number += 1
        value, raw = text.value()
        escaped = _ESCAPED_BYTES.search(raw)
        if escaped:
            reason = f"invalid UTF-8: byte 0x{ord(escaped.group()) - 0xDC00:02x}"
            yield BadRow(file, text.number, reason, _backslashed(raw))
        elif isinstance(value, dict):
            yield Row(file, text.number, value)
        else:
            yield BadRow(file, text.number, _not_an_object(value), raw)
    if in_array:
        if not sign:
            raise text.fault("the file ends before the array does", text.at)
        text.at += 1
        if text.next_sign():
            raise text.fault("there is more text after the end of the array", text.at)


class _JsonText:
    """A JSON text read piece by piece: what is ``held`` in memory, the place ``at`` which it is read, the row's number."""

    def __init__(self, file: str, handle: BinaryIO) -> None:
        self._file = file
        self._text = io.TextIOWrapper(handle, encoding="utf-8", errors="surrogateescape", newline="")
        self._decoder = json.JSONDecoder(parse_constant=_refuse_constant)
        self._line = 1  # where what is held begins
        self.held, self.at, self.number = "", 0, 0

    def more(self) -> bool:
        """Let go of what was read and read on; False at the end of the file."""
        chunk = self._text.read(max(JSON_CHUNK, len(self.held) - self.at))
        self._line += self.held.count("\n", 0, self.at)
        self.held, self.at = self.held[self.at :] + chunk, 0
        return bool(chunk)

    def next_sign(self) -> str:
        """The next character that is no space, left in place; empty at the end of the file."""
        while True:
            self.at = _SPACE.match(self.held, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.held):
                return self.held[self.at]
            if not self.more():
                return ""

    def value(self) -> tuple[Any, str]:
        """The value that begins here, and its text. Raises ``UsageError``."""
        while True:
            start = self.at
            try:
                value, end = self._decoder.raw_decode(self.held, start)
            except RecursionError:
                raise self.fault("the row is nested too deep", start) from None
            except json.JSONDecodeError as error:
                where = max(error.pos - start, 0)
                open_string = error.msg.startswith("Unterminated string")
                may_be_cut = open_string or (error.doc and error.pos >= len(self.held) - 16)
                if may_be_cut and len(self.held) - start <= JSON_ROW_LIMIT and self.more():
                    continue
                cut = open_string or self.at + where >= len(self.held.rstrip())
                message = "the file ends in the middle of a row" if cut else error.msg
                raise self.fault(message, self.at + where) from None
            # A number may go on after what is held: "1" may become "1.5", and "1e+" ends in signs of a longer one.
            if len(self.held) - end < 3 and not isinstance(value, dict | list | str) and self.more():
                continue
            raw = self.held[self.at : self.at + end - start]
            self.at += end - start
            return value, raw

    def fault(self, message: str, place: int) -> UsageError:
        """The error for what is wrong at ``place`` in what is held."""
        row = f"row {self.number}, line {self._line + self.held.count(chr(10), 0, place)}"
        mend = "Mend it there; JSON lines would lose only that row."
        return UsageError(f"not JSON: {message}", where=f"{self._file}, {row}", mend=mend)


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
    if _ESCAPED_BYTES.search("".join(header)):
        spelled = _backslashed(",".join(header))
        raise UsageError(f"the header is not UTF-8: {spelled}", where=file, mend="Save the file as UTF-8.")
    if len(set(header)) < len(header):
        twice = sorted({name for name in header if header.count(name) > 1})
        raise UsageError(f"the header names a column twice: {', '.join(twice)}", where=file)
    number = 0
    while True:
        first_line = reader.line_num + 1
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
            spans = reader.line_num - first_line + 1
            hint = f"; it spans lines {first_line} to {reader.line_num}: is a quote not closed?" if spans > 1 else ""
            yield BadRow(file, number, f"the row has {len(cells)} cells, the header {len(header)}{hint}", raw)
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
        try:
            rows = batch.to_pylist()
        except ValueError as error:  # nanoseconds, which Python's own times cannot hold; pyarrow asks for pandas then
            raise UsageError(
                f"a column cannot be read: {_first_line(error)}",
                where=file,
                mend="Install pandas (pip install pandas), or save that column in microseconds.",
            ) from None
        for data in rows:
            yield Row(file, next(numbers), data)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
