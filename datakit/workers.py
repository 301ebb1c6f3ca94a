"""The looking at rows, spread over processes: places of blocks go out, what was found comes back in order."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from registry.blocks import Block, Item, Piece, Place, gathered
from registry.errors import StoppedError
from registry.processes import follow_parent
from registry.remote import is_remote
from registry.sources import STDIN

MOST_WORKERS = 8  # one process reads, judges and writes; it keeps about so many busy
WORTH_BYTES = 128 << 20  # of sources: for less, starting processes takes longer than it saves
AHEAD = 2  # items of each worker that wait or are worked on

Result = TypeVar("Result")

_look: Callable[[Piece], Any]  # in a worker


def num_workers(asked: int, files: Iterable[str], worth: int = WORTH_BYTES) -> int:
    """How many processes look at rows: as many as asked for; 0 means one a core where the files together have at least
    ``worth`` bytes."""
    if asked:
        return asked
    num_bytes = sum(Path(file).stat().st_size for file in files if file != STDIN and not is_remote(file))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_WORKERS) if num_bytes >= worth else 1


def in_order(
    items: Iterable[Item],
    make: Callable[..., Callable[[Piece], Result]],
    args: Sequence[Any],
    workers: int,
) -> Generator[tuple[Piece, Result], None, None]:
    """Blocks, and other rows gathered, each with what ``make(*args)`` finds in it.

    Where there are several workers, each calls ``make`` for itself, and reads the blocks that lie in files. All else is
    looked at here: it would have to be sent. ``args`` and the results are pickled.
    Raises ``StoppedError`` where a worker is killed, and what the looking raises.
    """
    with ExitStack() as stack:
        pool: ProcessPoolExecutor | None = None
        here: Callable[[Piece], Result] | None = None
        out: deque[tuple[Piece, Future[Result]]] = deque()
        for item in gathered(items):
            place = item.place() if workers > 1 and isinstance(item, Block) else None
            if place is not None:
                if pool is None:
                    pool = ProcessPoolExecutor(
                        workers, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(make, *args)
                    )
                    stack.callback(pool.shutdown, wait=True, cancel_futures=True)
                out.append((item, _sent(pool, place)))
                if len(out) > AHEAD * workers:
                    yield _done(out)
                continue
            while out:
                yield _done(out)
            here = here or make(*args)
            yield item, here(item)
        while out:
            yield _done(out)


def _sent(pool: ProcessPoolExecutor, place: Place) -> Future[Any]:
    try:
        return pool.submit(_look_there, place)
    except BrokenProcessPool:
        raise _killed() from None


def _done(out: deque[tuple[Piece, Future[Result]]]) -> tuple[Piece, Result]:
    item, future = out.popleft()
    try:
        return item, future.result()
    except BrokenProcessPool:
        raise _killed() from None


def _killed() -> StoppedError:
    return StoppedError(
        "a process that looks at rows was killed, perhaps because memory ran out",
        mend="With fewer of them it takes less:  --workers 1",
    )


def _begin(make: Callable[..., Callable[[Any], Any]], *args: Any) -> None:
    """In a worker: what to look for, and no life of its own when the parent is gone."""
    global _look
    follow_parent()
    _look = make(*args)


def _look_there(place: Place) -> Any:
    return _look(place.read())
