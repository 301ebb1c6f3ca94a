"""The processes that encode: each opens tokenizer and files once, and is handed chunks by their places."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from registry.encoded.chunks import Chunk
from registry.encoded.spec import EncodeSpec
from registry.encoded.work import Encoding, Opened
from registry.errors import StoppedError
from registry.processes import follow_parent

Submit = Callable[[Chunk], "Future[dict[str, Any] | None]"]

_encoding: Encoding  # in a worker


def open_pool(
    stack: ExitStack, spec: EncodeSpec, folder: Path, workers: int, backend: str, opened: Opened | None
) -> Submit:
    """What encodes a chunk: this process where ``workers`` is 1, with what it has ``opened``, else one of so many, which
    end with ``stack``."""
    if workers == 1:
        encoding = Encoding(spec, folder, backend, opened)

        def here(chunk: Chunk) -> Future[dict[str, Any] | None]:
            future: Future[dict[str, Any] | None] = Future()
            future.set_result(encoding.shard(chunk))
            return future

        return here
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(spec, folder, backend)
    )
    stack.callback(pool.shutdown, wait=True, cancel_futures=True)

    def there(chunk: Chunk) -> Future[dict[str, Any] | None]:
        try:
            return pool.submit(_shard, chunk)
        except BrokenProcessPool as error:  # told in its turn: what was done before is kept
            future: Future[dict[str, Any] | None] = Future()
            future.set_exception(error)
            return future

    return there


def result_of(future: Future[dict[str, Any] | None]) -> dict[str, Any] | None:
    """What became of a chunk. Raises what its encoding raised, and ``StoppedError`` where a process was killed."""
    try:
        return future.result()
    except BrokenProcessPool:
        raise _killed() from None


def _killed() -> StoppedError:
    return StoppedError(
        "a process that encodes rows was killed, perhaps because memory ran out",
        mend="Run the same command again to go on; with preprocessing_num_workers: 1 it takes less memory.",
    )


def _begin(spec: EncodeSpec, folder: Path, backend: str) -> None:
    """In a worker: open what is needed once, and have no life of its own when the parent is gone."""
    global _encoding
    follow_parent()
    _encoding = Encoding(spec, folder, backend)


def _shard(chunk: Chunk) -> dict[str, Any] | None:
    return _encoding.shard(chunk)
