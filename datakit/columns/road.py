"""Batches of columnar files through a plan into a sink, spelled by several threads, in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

from datakit.columns.plan import ColumnPlan, Spelled
from datakit.summary import with_progress
from datakit.write import Sink
from registry.columnar import read_batches
from registry.rows import BadRow, Row
from registry.rows.columns import read_batch

if TYPE_CHECKING:
    import pyarrow as pa

# polars and pyarrow let go of the interpreter while they work; batches in flight bound the memory (some 8 MB each)
THREADS = min(os.cpu_count() or 1, 4)


def pass_columns(
    files: Sequence[str],
    plan: ColumnPlan,
    sink: Sink,
    *,
    row_by_row: Callable[[Row | BadRow], None],
    see: Callable[[bytes], None],
    count: Callable[[str, int], None],
    limit: int | None,
    doing: str,
) -> None:
    """Every row of ``files`` into ``sink``: blocks of lines where the plan spells them, else through ``row_by_row``.

    ``row_by_row`` enters the row into the ledger itself. ``see`` looks at each block of lines that may hold ``{{``, ``count`` is told
    how many rows of a block held something in a column that does not come along. ``limit`` counts rows read.
    """
    batches = with_progress(_batches(files, limit), doing, size=lambda item: item[2].num_rows)
    with closing(batches) as passing, closing(_spelled(passing, plan)) as spelled:
        for file, first, batch, found in spelled:
            sink.changes.update(found.changes)
            for name, rows in found.left_out.items():
                count(name, rows)
            at = 0
            for part in found.parts:
                if isinstance(part, int):
                    for row in read_batch(file, first + at, batch.slice(at, 1)):
                        row_by_row(row)
                    at += 1
                    continue
                lines, rows = part
                sink.ledger.read(file, rows)
                sink.accept_lines(lines, rows)
                if found.braces:
                    see(lines)
                at += rows


def _batches(files: Sequence[str], limit: int | None) -> Iterator[tuple[str, int, pa.RecordBatch]]:
    left = limit
    for file in files:
        first = 1
        for batch in read_batches(file):
            if left is not None:
                batch = batch.slice(0, left)
                left -= batch.num_rows
            if batch.num_rows:
                yield file, first, batch
            first += batch.num_rows
            if left == 0:
                return


def _spelled(
    batches: Iterator[tuple[str, int, pa.RecordBatch]], plan: ColumnPlan
) -> Generator[tuple[str, int, pa.RecordBatch, Spelled], None, None]:
    waiting: deque[tuple[str, int, pa.RecordBatch, Future[Spelled]]] = deque()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="spell") as pool:
        for file, first, batch in batches:
            waiting.append((file, first, batch, pool.submit(plan.spell, batch)))
            if len(waiting) > THREADS:
                yield _done(waiting)
        while waiting:
            yield _done(waiting)


def _done(
    waiting: deque[tuple[str, int, pa.RecordBatch, Future[Spelled]]],
) -> tuple[str, int, pa.RecordBatch, Spelled]:
    file, first, batch, future = waiting.popleft()
    return file, first, batch, future.result()
