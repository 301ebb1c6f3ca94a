"""Batches made by a thread while the step before them computes, in pinned memory where a GPU will copy them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trainkit.data.collate import Batch

AHEAD = 2  # steps
PATIENCE = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Prepared:
    """One step's micro-batches of this rank, what they were made of, where the data stand after them (for the
    checkpoint; streamed runs only), and the FLOPs that they take."""

    number: int
    micro: Sequence[Any]
    batches: list[Batch]
    position: dict[str, Any]
    num_flops: float = 0.0


class Prefetch:
    """``make(number)`` for every step from ``start`` up to ``total``, at most ``AHEAD`` of them waiting.

    What ``make`` raises is raised where its step is asked for.
    """

    def __init__(self, make: Callable[[int], Prepared], start: int, total: int) -> None:
        self._made: queue.Queue[Prepared | BaseException] = queue.Queue(AHEAD)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(make, start, total), name="batches", daemon=True)
        self._thread.start()

    def _run(self, make: Callable[[int], Prepared], start: int, total: int) -> None:
        for number in range(start, total):
            try:
                made: Prepared | BaseException = make(number)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to whoever waits for the batch
                made = error
            while not self._closed.is_set():
                try:
                    self._made.put(made, timeout=0.2)
                    break
                except queue.Full:
                    continue
            if self._closed.is_set() or isinstance(made, BaseException):
                return

    def next(self) -> Prepared:
        """The next step's batches, waited for."""
        made = self._made.get()
        if isinstance(made, BaseException):
            raise made
        return made

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, kind: type[BaseException] | None, *ignored: object) -> None:
        self._closed.set()
        self._thread.join(None if kind is None else PATIENCE)  # who leaves at once does not wait for a batch


def with_idle(batches: list[Batch], count: int, spare: Callable[[], Batch]) -> list[Batch]:
    """``batches`` filled up to ``count`` with one that weighs nothing, so that every rank computes as often as the busiest;
    ``spare`` makes one for a rank that has none of its own."""
    if len(batches) >= count:
        return batches
    idle = (batches[0] if batches else spare()).as_idle()
    return batches + [idle] * (count - len(batches))
