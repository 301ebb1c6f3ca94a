"""Rows from files, streaming: (file, row number, dict) for each readable row, and the reason for each that is not."""

from __future__ import annotations

import io
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from registry.errors import UsageError, from_os_error
from registry.rows.columns import read_columns
from registry.rows.delimited import read_delimited
from registry.rows.head import look_at_head
from registry.rows.json_shape import Shape, shape_of
from registry.rows.json_values import read_json_values
from registry.rows.jsonl import decode_json, read_jsonl, row_of_line
from registry.rows.row import BadRow, Row
from registry.rows.text_lines import read_text_lines
from registry.sources import STDIN, container_of, expand_sources, open_binary
from registry.unchanged import unchanged

__all__ = ["BadRow", "Row", "decode_json", "read_parts", "read_rows", "row_of_line"]

log = logging.getLogger("tunekit")

T = TypeVar("T")


class NoRows(UsageError):
    """Sources of which none holds a row."""

    def __init__(self, files: Iterable[str]) -> None:
        super().__init__("there is no row in it: the file is empty", where=", ".join(files))


def read_rows(sources: Iterable[str | Path], *, keep_blank_lines: bool = False) -> Iterator[Row | BadRow]:
    """Every row of every source in order, holding one batch at a time.

    ``keep_blank_lines`` makes blank lines of .txt files rows of empty text, as LLaMA-Factory's loader does.
    Raises ``UsageError`` where a file as a whole cannot be read or changes meanwhile, or where all sources together
    hold no row (``NoRows``).
    """
    return read_parts(sources, read_jsonl, keep_blank_lines=keep_blank_lines)


def read_parts(
    sources: Iterable[str | Path],
    read_lines: Callable[[str, io.BufferedReader], Iterator[T]],
    *,
    keep_blank_lines: bool = False,
) -> Iterator[T | Row | BadRow]:
    """As ``read_rows``, with what ``read_lines`` yields for a file of JSON lines in place of its rows."""
    files = expand_sources(sources, warn=False)  # whoever names the sources to the user warns
    without_rows = []
    for file in files:
        count = 0
        with unchanged(file):
            try:
                for row in _read_file(file, read_lines, keep_blank_lines):
                    count += 1
                    yield row
            except (OSError, EOFError, zlib.error) as error:
                raise _unreadable(file, error) from error
        if not count:
            without_rows.append(file)
    if len(without_rows) == len(files):
        raise NoRows(files)
    if without_rows:
        log.warning("there is no row in %s", ", ".join(without_rows))


def _unreadable(file: str, error: Exception) -> UsageError | Exception:
    """The error to raise for one of the system, or of a decompressor, which has no number."""
    if isinstance(error, OSError) and error.errno is not None:
        return from_os_error(error, f"reading {file}")
    return UsageError(
        f"the compressed file is cut off or damaged: {error}", where=file, mend="Make or fetch the file again."
    )


def _read_file(
    file: str, read_lines: Callable[[str, io.BufferedReader], Iterator[T]], keep_blank_lines: bool
) -> Iterator[T | Row | BadRow]:
    container = "jsonl" if file == STDIN else container_of(file) or "json"
    if container in ("parquet", "arrow"):
        yield from read_columns(file)
        return
    with open_binary(file) as handle:
        head = look_at_head(file, handle, container)
        if container in ("csv", "tsv"):
            yield from read_delimited(file, handle, "\t" if container == "tsv" else ",")
        elif container == "txt":
            yield from read_text_lines(file, handle, keep_blank_lines)
        elif (shape := shape_of(file, head, container)) is Shape.LINES:
            yield from read_lines(file, handle)
        else:
            yield from read_json_values(file, handle, in_array=shape is Shape.ARRAY)
