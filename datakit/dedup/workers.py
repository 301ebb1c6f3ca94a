"""The looking at rows, spread over processes: blocks go out, batches come back in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack

from datakit.dedup.look import Batch, Item, Wanted, look_at_block, look_at_rows
from registry.blocks import Block
from registry.errors import StoppedError
from registry.rows import BadRow, Row

MOST_WORKERS = 8  # one process judges and writes; it keeps about so many busy
WORTH_BYTES = 64 << 20  # of JSON lines: for less, starting processes takes longer than it saves
BLOCKS_AHEAD = 2  # of each worker
MOST_ROWS = 1024  # in a batch of rows that come one by one
MOST_BYTES = 1 << 20  # of the texts in them, about

_wanted = Wanted()  # in a worker


def num_workers(asked: int, num_bytes: int) -> int:
    """How many processes look at rows: as many as asked for; 0 means one a core where there are many bytes to read."""
    if asked:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_WORKERS) if num_bytes >= WORTH_BYTES else 1


def look_at(items: Iterator[Item], wanted: Wanted, workers: int = 1) -> Iterator[Batch]:
    """All rows in batches, in order. With one worker it is this process. Raises ``StoppedError`` where one is killed."""
    with ExitStack() as stack:
        pool = None
        if workers > 1:
            pool = ProcessPoolExecutor(
                workers, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(wanted,)
            )
            stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        out: deque[Future[Batch]] = deque()
        rows: list[Row | BadRow] = []
        for item in items:
            if rows and (isinstance(item, Block) or item.file != rows[0].file or _is_full(rows)):
                yield from _all_of(out)
                yield look_at_rows(rows[0].file, rows, wanted)
                rows = []
            if not isinstance(item, Block):
                rows.append(item)
            elif pool is None:
                yield look_at_block(item, wanted)
            else:
                out.append(pool.submit(_look, item))
                if len(out) > BLOCKS_AHEAD * workers:
                    yield _result(out.popleft())
        yield from _all_of(out)
        if rows:
            yield look_at_rows(rows[0].file, rows, wanted)


def _is_full(rows: list[Row | BadRow]) -> bool:
    if len(rows) >= MOST_ROWS:
        return True
    last = rows[-1]
    texts = last.data.values() if isinstance(last, Row) else (last.raw,)
    return sum(len(text) for text in texts if isinstance(text, str)) * len(rows) > MOST_BYTES


def _all_of(out: deque[Future[Batch]]) -> Iterator[Batch]:
    while out:
        yield _result(out.popleft())


def _result(future: Future[Batch]) -> Batch:
    try:
        return future.result()
    except BrokenProcessPool:
        raise StoppedError(
            "a process that looks at rows was killed, perhaps because memory ran out",
            mend="With fewer of them it takes less:  --workers 1",
        ) from None


def _begin(wanted: Wanted) -> None:
    """In a worker: what to look for, and no life of its own when the parent is gone."""
    global _wanted
    _wanted = wanted
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told as well, and ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _look(block: Block) -> Batch:
    return look_at_block(block, _wanted)
