"""Rows into files with fixed columns (Parquet, CSV, TSV), whose columns are only known once all rows have passed."""

from __future__ import annotations

import csv
import io
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from types import NoneType
from typing import IO, TYPE_CHECKING, Any

import orjson

from datakit.batch_writer import BatchWriter, ParquetLines
from datakit.values import EMPTY_OBJECT
from registry.errors import UsageError
from registry.rows import decode_json

if TYPE_CHECKING:
    import pyarrow as pa

MOST_INT64 = 2**63 - 1
BATCH_ROWS = 4096  # rows held in memory at a time, and rows in one row group
WriteLine = Callable[[bytes], Any]
NextFile = Callable[[], IO[bytes]]  # gives the next file of the output, and completes the one before


@contextmanager
def delimited_writer(
    next_file: NextFile, shard_rows: int | None, folder: Path | None, delimiter: str
) -> Iterator[WriteLine]:
    """CSV or TSV with a header of all columns: text as it is, null as an empty cell, the rest as JSON text.

    The rows wait in an unnamed temporary file in ``folder``, since the last row may bring one more column.
    """
    columns: dict[str, None] = {}
    with tempfile.TemporaryFile(dir=folder) as spool:

        def write(line: bytes) -> None:
            columns.update(dict.fromkeys(orjson.loads(line)))
            spool.write(line + b"\n")

        yield write
        spool.seek(0)
        for lines in _shards(spool, shard_rows):
            text = io.TextIOWrapper(next_file(), encoding="utf-8", newline="", write_through=True)
            write_row = _row_writer(text, delimiter)
            if columns:
                write_row(columns)
            for rows in _batches(lines, columns):
                for row in rows:
                    write_row([_cell(row.get(column)) for column in columns])
            text.detach()


def _row_writer(text: io.TextIOWrapper, delimiter: str) -> Callable[[Iterable[Any]], Any]:
    """Writes one row of cells, each in quotes where it must be.

    The standard library leaves a lone carriage return bare where rows end in a line feed, though every reader (its own,
    too) takes it for the end of a row.
    """
    plain = csv.writer(text, delimiter=delimiter, lineterminator="\n").writerow
    quoted = csv.writer(text, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow

    def write(cells: Iterable[Any]) -> Any:
        return quoted(cells) if any(cell and "\r" in cell for cell in cells) else plain(cells)

    return write


def _cell(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # whole numbers beyond 64 bits
        import json

        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@contextmanager
def parquet_writer(
    next_file: NextFile, shard_rows: int | None, folder: Path | None, changes: Counter[str]
) -> Iterator[WriteLine]:
    """Parquet (zstd) of rows given as JSON; the types are learnt batch by batch while the rows wait in a spool. Record
    batches are written with the types they have.

    All shards have the one schema of all rows. Raises ``UsageError`` where a column's values have no common type.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    learner = TypeLearner()
    waiting: list[bytes] = []
    batches = BatchWriter(next_file, shard_rows)
    with tempfile.TemporaryFile(dir=folder) as spool:

        def write(line: bytes) -> None:
            spool.write(line + b"\n")
            waiting.append(line)
            if len(waiting) == BATCH_ROWS:
                learner.learn([decode_json(line) for line in waiting])
                waiting.clear()

        try:
            yield ParquetLines(write, batches)
        except BaseException:
            batches.abandon()
            raise
        if batches.schema is not None:
            batches.close()
            return
        learner.learn([decode_json(line) for line in waiting])
        waiting.clear()
        spool.seek(0)
        types = {column: _storable(kind) for column, kind in learner.types.items()}
        schema = pa.schema(list(types.items()))
        done = 0
        for lines in _shards(spool, shard_rows):
            with pq.ParquetWriter(next_file(), schema, compression="zstd") as writer:
                for rows in _batches(lines, types):
                    arrays = []
                    for column, kind in types.items():
                        values = [row.get(column) for row in rows]
                        if kind != learner.types[column]:
                            values = [_without_empty(value, kind, changes) for value in values]
                        arrays.append(_array(values, kind, column, done))
                    writer.write_batch(pa.record_batch(arrays, schema=schema))
                    done += len(rows)


def _shards(spool: IO[bytes], shard_rows: int | None) -> Iterator[Iterator[bytes]]:
    """The lines of the spool, so many to each file; where there is none, one file without rows."""
    lines = iter(spool)
    first = next(lines, None)
    if first is None:
        yield iter(())
    while first is not None:
        yield chain((first,), islice(lines, shard_rows and shard_rows - 1))
        first = next(lines, None)


def _batches(spooled: Iterator[bytes], columns: Iterable[str]) -> Iterator[list[dict[str, Any]]]:
    while lines := list(islice(spooled, BATCH_ROWS)):
        if not columns:
            raise UsageError("the rows hold no column, and a table needs one", mend="Write .jsonl instead.")
        yield [decode_json(line) for line in lines]


class TypeLearner:
    """The Arrow type of each column so far, and the first row that had a value in it.

    Types come from the Python values themselves: ``pyarrow.infer_type`` lets true pass for 1 and {} for text.
    """

    def __init__(self) -> None:
        self.types: dict[str, pa.DataType] = {}
        self._first: dict[str, int] = {}
        self._rows = 0

    def learn(self, rows: Sequence[dict[str, Any]]) -> None:
        """Widen the types by a batch. Raises ``UsageError`` naming the column, two types and their rows."""
        import pyarrow as pa

        for column in dict.fromkeys(chain.from_iterable(rows)):
            values = [row.get(column) for row in rows]
            known = self.types.get(column, pa.null())
            try:
                self.types[column] = _common(known, _type_of(values))
            except TypeError:
                raise self._clash(column, known, values) from None
            if column not in self._first:
                first = next((i for i, value in enumerate(values, start=1) if value is not None), None)
                if first is not None:
                    self._first[column] = self._rows + first
        self._rows += len(rows)

    def _clash(self, column: str, known: pa.DataType, values: Sequence[Any]) -> UsageError:
        first = self._first.get(column)
        for number, value in enumerate(values, start=self._rows + 1):
            if value is None:
                continue
            try:
                kind = _type_of([value])
            except TypeError:  # a list of several kinds
                return _no_common_type(column, f"row {number} holds several in one list: {str(value)[:60]}")
            try:
                known = _common(known, kind)
            except TypeError:
                return _no_common_type(column, f"{known} in row {first}, {kind} in row {number}")
            first = first or number
        raise AssertionError(f"no two values of {column} clash")


def _no_common_type(column: str, found: str) -> UsageError:
    return UsageError(
        f"its values have no common type: {found}",
        where=f'column "{column}"',
        mend="A Parquet column has one type. Write .jsonl, or mend these rows first.",
    )


def _type_of(values: Sequence[Any]) -> pa.DataType:
    """The one Arrow type of JSON values; whole numbers among fractions are fractions. Raises ``TypeError``."""
    import pyarrow as pa

    kinds = set(map(type, values)) - {NoneType}
    if not kinds:
        return pa.null()
    if kinds == {int, float}:
        return pa.float64()
    if len(kinds) > 1:
        raise TypeError
    kind = kinds.pop()
    if kind is list:
        return pa.list_(_type_of(list(chain.from_iterable(v for v in values if v is not None))))
    if kind is dict:
        objects = [v for v in values if v is not None]
        keys = dict.fromkeys(chain.from_iterable(objects))
        return pa.struct([(key, _type_of([o[key] for o in objects if key in o])) for key in keys])
    if kind is int and any(value is not None and value > MOST_INT64 for value in values):
        return pa.uint64()
    return {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}[kind]


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The type that holds both. Raises ``TypeError`` (pyarrow's own is one) where there is none."""
    import pyarrow as pa

    if one == other:
        return one
    if pa.uint64() in (one, other) and pa.int64() in (one, other):  # pyarrow says int64, which holds less
        return pa.uint64()
    schemas = [pa.schema([("column", kind)]) for kind in (one, other)]
    return pa.unify_schemas(schemas, promote_options="permissive").field(0).type


def _array(values: list[Any], kind: pa.DataType, column: str, done: int) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, OverflowError) as error:  # whole numbers beyond 64 bits, or beyond what a fraction holds
        raise UsageError(
            f"a number in rows {done + 1} to {done + len(values)} is too large for its type, {kind}: {error}",
            where=f'column "{column}"',
            mend="Write .jsonl, which keeps whole numbers of any size, or mend these rows first.",
        ) from None


def _storable(kind: pa.DataType) -> pa.DataType:
    """``kind`` with null in place of objects that never had a key: Parquet cannot store those."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        return pa.list_(_storable(kind.value_type))
    if pa.types.is_struct(kind):
        fields = [(field.name, _storable(field.type)) for field in map(kind.field, range(kind.num_fields))]
        return pa.struct(fields) if fields else pa.null()
    return kind


def _without_empty(value: Any, kind: pa.DataType, changes: Counter[str]) -> Any:
    import pyarrow as pa

    if pa.types.is_null(kind):
        changes[EMPTY_OBJECT] += value is not None
        return None
    if isinstance(value, list):
        return [_without_empty(v, kind.value_type, changes) for v in value]
    if isinstance(value, dict):
        return {key: _without_empty(v, kind.field(key).type, changes) for key, v in value.items()}
    return value
