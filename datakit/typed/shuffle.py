"""Batches of rows into a random order in bounded memory: the order that ``datakit.shuffle`` gives lines."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from datakit.shuffle import BUCKETS, BUFFER
from datakit.shuffle import WINDOW_BYTES as LINES_WINDOW

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

WINDOW_BYTES = LINES_WINDOW // 3  # putting batches together, sorting and scattering each make a copy of them
_KEY_BITS = 64
_BUCKET_BITS = BUCKETS.bit_length() - 1
_KEY = "key"
_BATCH_ROWS = 8192


class BatchShuffle:
    """Takes batches of one schema, and gives their rows back in the order of random keys, one drawn for each row.

    As ``datakit.shuffle.Shuffle``, with the same order for the same ``seed``: rows beyond ``window`` bytes lie in
    unnamed temporary files in ``folder``, by the first bits of their keys. Raises ``OSError``.
    """

    def __init__(
        self, seed: int, folder: Path | None = None, limit: int | None = None, *, window: int = WINDOW_BYTES
    ) -> None:
        self._rng = random.Random(seed)
        self._folder, self._limit, self._window = folder, limit, window
        self._held: list[pa.Table] = []
        self._size = 0
        self._buckets: list[_Bucket] = []
        self._files = ExitStack()
        self.taken = 0

    def __enter__(self) -> BatchShuffle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def add(self, batch: pa.RecordBatch) -> None:
        """Take the rows of one batch."""
        import pyarrow as pa

        draw = self._rng.getrandbits
        keys = pa.array([draw(_KEY_BITS) for _ in range(batch.num_rows)], pa.uint64())
        self.taken += batch.num_rows
        # The key goes first, under a name of its own by its place: a column may be called that as well.
        self._held.append(pa.Table.from_arrays([keys, *batch.columns], [_KEY, *map(str, range(batch.num_columns))]))
        self._size += self._held[-1].nbytes
        if self._size <= self._window:
            return
        if self._limit is not None and sum(table.num_rows for table in self._held) >= 2 * self._limit:
            self._held = [_sorted(self._all(), self._limit)]
            self._size = self._held[0].nbytes
        if self._size > self._window:
            self._spill()

    def batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """All rows (or the sample) in their order, as batches of ``schema``."""
        import pyarrow as pa

        left = self.taken if self._limit is None else min(self.taken, self._limit)
        for table in self._in_order():
            for start in range(0, min(table.num_rows, left), _BATCH_ROWS):
                piece = table.slice(start, min(_BATCH_ROWS, left - start)).combine_chunks().drop_columns([_KEY])
                yield pa.RecordBatch.from_arrays([_whole(column) for column in piece.columns], schema=schema)
            left -= min(table.num_rows, left)

    def _all(self) -> pa.Table:
        import pyarrow as pa

        return pa.concat_tables(self._held)

    def _spill(self) -> None:
        if not self._buckets:
            self._buckets = _open_buckets(self._files, self._folder)
        _scatter(self._all(), self._buckets, level=0)
        self._held.clear()
        self._size = 0

    def _in_order(self) -> Iterator[pa.Table]:
        if self._buckets and self._held:
            self._spill()
        if self._buckets:
            yield from _in_order(self._buckets, self._window, self._folder, level=1)
        elif self._held:
            yield _sorted(self._all())


class _Bucket:
    """One temporary file of batches."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self._writer: Any = None
        self.size = self.count = 0

    def write(self, table: pa.Table) -> None:
        import pyarrow as pa

        if self._writer is None:
            self._writer = pa.ipc.new_stream(pa.PythonFile(self.file, "w"), table.schema)
        self._writer.write_table(table)
        self.size += table.nbytes
        self.count += table.num_rows

    def read(self) -> Iterator[pa.RecordBatch]:
        """Everything in it, one batch after the other."""
        import pyarrow as pa

        if self._writer is None:
            return
        self._writer.close()
        self.file.flush()
        self.file.seek(0)
        yield from pa.ipc.open_stream(pa.PythonFile(self.file, "r"))


def _open_buckets(files: ExitStack, folder: Path | None) -> list[_Bucket]:
    return [_Bucket(files.enter_context(tempfile.TemporaryFile(dir=folder, buffering=BUFFER))) for _ in range(BUCKETS)]


def _in_order(buckets: list[_Bucket], window: int, folder: Path | None, *, level: int) -> Iterator[pa.Table]:
    """The rows of all buckets in order, a table at a time; of one too large for memory, by scattering it once more."""
    import pyarrow as pa

    deepest = level == _KEY_BITS // _BUCKET_BITS
    for bucket in buckets:
        if not bucket.count:
            continue
        if bucket.size <= window or bucket.count == 1 or deepest:
            yield _sorted(pa.Table.from_batches(bucket.read()))
        else:
            with ExitStack() as files:
                inner = _open_buckets(files, folder)
                for batch in bucket.read():
                    _scatter(pa.Table.from_batches([batch]), inner, level=level)
                yield from _in_order(inner, window, folder, level=level + 1)
        bucket.file.close()  # and its room on the disk is free again


def _keys(table: pa.Table) -> np.ndarray:
    return table.column(0).combine_chunks().to_numpy(zero_copy_only=False)


def _sorted(table: pa.Table, limit: int | None = None) -> pa.Table:
    """The rows (or the first ``limit``) by their keys, as a copy: a slice would keep all of them in memory."""
    import numpy as np
    import pyarrow as pa

    return table.take(pa.array(np.argsort(_keys(table), kind="stable")[:limit]))


def _scatter(table: pa.Table, buckets: list[_Bucket], *, level: int) -> None:
    """Each row into the bucket that its key says, by the bits behind those of ``level`` earlier scatterings."""
    import numpy as np
    import pyarrow as pa

    shift = np.uint64(_KEY_BITS - _BUCKET_BITS * (level + 1))
    numbers = (_keys(table) >> shift) & np.uint64(BUCKETS - 1)
    order = np.argsort(numbers, kind="stable")
    ends = np.searchsorted(numbers[order], np.arange(BUCKETS + 1))
    for bucket, start, end in zip(buckets, ends[:-1], ends[1:], strict=True):
        if end > start:
            bucket.write(table.take(pa.array(order[start:end])))


def _whole(column: Any) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
