"""Parquet and Arrow: rows out of record batches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from registry.arrow_rows import rows_of, values_of
from registry.columnar import read_batches
from registry.errors import UsageError
from registry.rows.row import BadRow, Row

if TYPE_CHECKING:
    import pyarrow as pa

CELLS = 1 << 20  # values made at a time, so that 100,000 columns cost no more memory than ten


def read_columns(file: str) -> Iterator[Row | BadRow]:
    """A row for each row of the file. One whose values Python cannot hold, or that is no UTF-8, costs that row only."""
    first = 1
    for batch in read_batches(file):
        yield from read_batch(file, first, batch)
        first += batch.num_rows


def read_batch(file: str, first: int, batch: pa.RecordBatch) -> Iterator[Row | BadRow]:
    """The rows of one batch of ``file``, whose first one has the number ``first``."""
    number = first
    step = max(CELLS // max(batch.num_columns, 1), 1)
    for start in range(0, batch.num_rows, step):
        piece = batch.slice(start, step)
        rows = _rows(file, piece)
        for data in rows or ():
            yield Row(file, number, data)
            number += 1
        if rows is not None:
            continue
        for i in range(piece.num_rows):
            found = one_row(piece.slice(i, 1))
            yield Row(file, number, found) if isinstance(found, dict) else BadRow(file, number, *found)
            number += 1


def _rows(file: str, batch: pa.RecordBatch) -> list[dict[str, Any]] | None:
    """The rows of a batch; None where one of them has no value."""
    try:
        return rows_of(batch)
    except UsageError as error:
        raise UsageError(error.what, where=file, mend=error.mend) from None
    except (ValueError, OverflowError, LookupError):
        return None


def one_row(batch: pa.RecordBatch) -> dict[str, Any] | tuple[str, str]:
    """The row of a batch of one, or the reason and its raw text where a column of it has no value."""
    values: dict[str, Any] = {}
    reason = ""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            values[name] = values_of(column)[0]
        except UnicodeDecodeError as error:
            values[name] = bytes(error.object).decode("utf-8", "backslashreplace")
            reason = reason or f'column "{name}": invalid UTF-8: byte 0x{error.object[error.start]:02x}'
        except (ValueError, OverflowError, LookupError) as error:
            values[name] = None
            reason = reason or f'column "{name}": {str(error).strip().splitlines()[0]}'
    return (reason, json.dumps(values, ensure_ascii=False, default=str)) if reason else values
