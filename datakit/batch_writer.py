"""Record batches into Parquet files as they are: as many files as asked for, with row groups of a sensible size."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from registry.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_BYTES = 32 << 20  # of a row group, in memory
GROUP_ROWS = 1 << 17


class BatchWriter:
    """Writes batches of one schema to the files that ``next_file`` gives, ``shard_rows`` to each where that is set.

    Holds at most ``GROUP_BYTES`` (and one batch) at a time.
    """

    def __init__(self, next_file: Callable[[], IO[bytes]], shard_rows: int | None) -> None:
        self._next_file, self._shard_rows = next_file, shard_rows
        self._writer: Any = None
        self._waiting: list[pa.RecordBatch] = []
        self._rows_in_file = 0
        self.schema: pa.Schema | None = None

    def begin(self, schema: pa.Schema) -> None:
        """All rows come as batches of ``schema``; the first file is there even if none comes."""
        self.schema = schema
        self._begin_file()

    def write(self, batch: pa.RecordBatch) -> None:
        """Take the rows of one batch. Raises ``OSError``."""
        while batch.num_rows:
            room = batch.num_rows
            if self._shard_rows is not None:
                if self._rows_in_file == self._shard_rows:
                    self._begin_file()
                room = min(room, self._shard_rows - self._rows_in_file)
            self._waiting.append(batch.slice(0, room))
            self._rows_in_file += room
            batch = batch.slice(room)
            held = sum(waiting.nbytes for waiting in self._waiting)
            if held >= GROUP_BYTES or sum(waiting.num_rows for waiting in self._waiting) >= GROUP_ROWS:
                self._flush()

    def close(self) -> None:
        """Complete the last file."""
        self._flush()
        self._writer.close()

    def abandon(self) -> None:
        """Let go of the file at hand."""
        if self._writer is not None:
            with suppress(Exception):  # what failed to be written fails again
                self._writer.close()

    def _begin_file(self) -> None:
        import pyarrow.parquet as pq

        if self._writer is not None:
            self.close()
        self._writer = pq.ParquetWriter(self._next_file(), self.schema, compression="zstd")
        self._rows_in_file = 0

    def _flush(self) -> None:
        import pyarrow as pa

        if not self._waiting:
            return
        try:
            self._writer.write_table(pa.Table.from_batches(self._waiting, self.schema))
        except pa.ArrowInvalid as error:  # e.g. seconds so far away that Parquet's milliseconds do not reach them
            what = f"a value cannot be written as Parquet: {str(error).splitlines()[0]}"
            raise UsageError(what, mend="Write .jsonl, which spells values of any size.") from None
        self._waiting.clear()


@dataclass(frozen=True, slots=True)
class ParquetLines:
    """Writes rows as lines of JSON; or, if ``batches`` is begun, as batches and nothing else."""

    write: Callable[[bytes], Any]
    batches: BatchWriter

    def __call__(self, line: bytes) -> None:
        self.write(line)
