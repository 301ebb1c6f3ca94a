"""Columnar files (Parquet, Arrow) as record batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from registry.errors import UsageError, from_os_error
from registry.magic import foreign_to
from registry.sources import STDIN, container_of, local_path, open_seekable
from registry.unchanged import unchanged

if TYPE_CHECKING:
    import pyarrow as pa

HEAD_BYTES = 64
OWN_MAGIC = {"Parquet": b"PAR1", "Arrow": b"ARROW1"}
BATCH_ROWS = 8192  # at most
BATCH_CELLS = 4 << 20  # at most
BATCH_BYTES = 3 << 20  # aimed at, uncompressed: what stays in a core's cache is written 1.5 times as fast as 8 MB


def is_columnar(file: str) -> bool:
    """Whether the file's ending says Parquet or Arrow."""
    return file != STDIN and container_of(file) in ("parquet", "arrow")


def schema_of(file: str) -> pa.Schema:
    """The schema of a columnar file. Raises ``UsageError`` where it cannot be read."""
    with _opened(file) as (schema, _):
        return schema


def read_batches(file: str) -> Iterator[pa.RecordBatch]:
    """The rows of a columnar file in order, some megabytes at a time.

    Raises ``UsageError`` where it is damaged, or changes meanwhile. Text is passed on unseen: it may be no UTF-8.
    """
    with unchanged(file), _opened(file) as (_, batches):
        yield from batches


@contextmanager
def _opened(file: str) -> Iterator[tuple[pa.Schema, Iterator[Any]]]:
    import pyarrow as pa

    kind = "Parquet" if container_of(file) == "parquet" else "Arrow"
    try:
        with (_parquet if kind == "Parquet" else _arrow)(open_seekable(file)) as (schema, batches):
            schema.names  # noqa: B018  # raises where a name is no UTF-8, which pyarrow looks at only now
            yield schema, batches
    except UsageError:
        raise
    except (pa.ArrowException, ValueError, LookupError, TypeError, OverflowError, NotImplementedError) as error:
        raise _damaged(file, kind, error) from None
    except OSError as error:
        if error.errno is None:  # pyarrow's own words for a damaged page
            raise _damaged(file, kind, error) from None
        raise from_os_error(error, f"reading {file}") from error


def _damaged(file: str, kind: str, error: Exception) -> UsageError:
    path = local_path(file)
    head = b""
    if path is not None:
        with Path(path).open("rb") as handle:
            head = handle.read(HEAD_BYTES)
    what = foreign_to(head, OWN_MAGIC[kind])
    words = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UsageError(
        f"cannot be read as {kind}: {f'it is {what[0]}' if what else words}", where=file, mend=what[1] if what else None
    )


@contextmanager
def _parquet(source: str | BinaryIO) -> Iterator[tuple[pa.Schema, Iterator[Any]]]:
    import pyarrow.parquet as pq

    # pre_buffer=False: the default keeps all column chunks in memory and is slower (apache/arrow#39808).
    with pq.ParquetFile(source, pre_buffer=False) as parquet:
        # Never ask for a group's column: where its metadata is damaged, pyarrow 26 ends the process.
        groups = [parquet.metadata.row_group(i) for i in range(parquet.num_row_groups)]
        widest = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1.0)
        # Columns of few values are far wider in memory than in the file, so their number bounds a batch as well.
        fitting = BATCH_CELLS // max(parquet.metadata.num_columns, 1)
        rows = max(min(BATCH_ROWS, fitting, int(BATCH_BYTES / max(widest, 1.0))), 1)
        yield (
            parquet.schema_arrow,
            _counted(parquet.iter_batches(batch_size=rows, use_threads=False), parquet.metadata.num_rows),
        )


def _counted(batches: Iterator[Any], num_rows: int) -> Iterator[Any]:
    count = 0
    for batch in batches:
        count += batch.num_rows
        yield batch
    if count != num_rows:
        raise ValueError(f"its footer tells of {num_rows:,} rows, {count:,} are there")


@contextmanager
def _arrow(source: str | BinaryIO) -> Iterator[tuple[pa.Schema, Iterator[Any]]]:
    import pyarrow as pa

    with pa.memory_map(source) if isinstance(source, str) else pa.PythonFile(source, "r") as handle:
        try:
            reader = pa.ipc.open_file(handle)
            whole = (reader.get_batch(i) for i in range(reader.num_record_batches))
            schema = reader.schema
        except pa.ArrowInvalid:  # the streaming layout, as `datasets` writes it
            handle.seek(0)
            whole = iter(pa.ipc.open_stream(handle))
            schema = whole.schema
        batches: Iterator[Any] = _while_whole(whole, source) if isinstance(source, str) else whole
        pieces = (piece for batch in batches for piece in _pieces(_sound(batch)))
        yield schema, _while_whole(pieces, source) if isinstance(source, str) else pieces


def _while_whole(items: Iterator[Any], path: str) -> Iterator[Any]:
    """``items`` of a file that is mapped into memory: touching what was cut off of it meanwhile ends the process.

    Raises ``ValueError`` where it is shorter than at the start, right before each item is made.
    """
    size = Path(path).stat().st_size
    while True:
        with suppress(FileNotFoundError):  # removed, its content stays until it is closed
            if Path(path).stat().st_size < size:
                raise ValueError("it was cut off while it was read")
        item = next(items, None)
        if item is None:
            return
        yield item


def _sound(batch: Any) -> Any:
    """``batch``, whose offsets come from the file as they are: a wrong one would be read out of bounds, and crash.

    Raises ``pa.ArrowInvalid``, but not for text that is no UTF-8, which costs its rows only.
    """
    import pyarrow as pa

    for column in batch.columns:
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            as_bytes = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}.get(column.type)
            if as_bytes is None:
                raise
            column.view(as_bytes).validate(full=True)
    return batch


def _pieces(batch: Any) -> Iterator[Any]:
    rows = max(min(BATCH_ROWS, int(BATCH_BYTES * batch.num_rows / max(batch.nbytes, 1))), 1)
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)
