"""The steps of a streamed run: rows encoded window by window, packed if asked, dealt out into micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from registry.encode import AnyExample
from registry.errors import RowFault, UsageError
from registry.packing import pack_lengths
from trainkit.data.streaming import Position, RowStream, StreamRow

WINDOW = 4096  # rows encoded, and packed, together
Unit = AnyExample | list[AnyExample]  # an example, or in a packed run a block of them
Encode = Callable[[Sequence[Any]], Iterable[AnyExample | RowFault]]


@dataclass(frozen=True, slots=True)
class StepPosition:
    """Where the next step begins: the window's first row, and how many of the window's examples or blocks are ``given``."""

    epoch: int = 0
    taken: int = 0
    given: int = 0


@dataclass(frozen=True, slots=True)
class _Window:
    start: Position
    end: Position
    units: list[Unit]


class StreamSteps:
    """Deals out the stream of one rank, ``accumulation`` micro-batches of ``batch_size`` examples (or blocks) a step.

    ``encode`` makes examples of records: one each, or the fault by which there is none; where text is cut into blocks it
    may give any number of examples. With ``block_len`` (tokens) examples are packed inside each window of ``window``
    rows, best fit first, the blocks shuffled by the stream's seed; a micro-batch is then a list of blocks, a block a
    list of examples. A window never reaches into the next epoch; a step may. ``on_rows`` hears of the number of rows
    of each window of the first epoch, their records, and what became of these, ``on_fault`` of each of the rows that is
    not trained on, once.

    Steps are the same however one gets there: from the start, or from a ``position`` that was kept (``go_to``).
    """

    def __init__(
        self,
        stream: RowStream,
        encode: Encode,
        *,
        batch_size: int,
        accumulation: int = 1,
        block_len: int = 0,
        window: int = WINDOW,
        on_rows: Callable[[int, Sequence[Any], Sequence[Any]], None] = lambda num_rows, records, made: None,
        on_fault: Callable[[StreamRow], None] = lambda row: None,
    ) -> None:
        self.stream, self.encode, self.on_rows, self.on_fault = stream, encode, on_rows, on_fault
        self.batch_size, self.accumulation = batch_size, accumulation
        self.block_len, self.window = block_len, window
        self._first_fault: StreamRow | None = None
        self.go_to(0, StepPosition())

    def go_to(self, number: int, position: StepPosition) -> None:
        """Let step ``number`` come next, which begins at ``position``: that of a run of the same settings."""
        self._number, self._given = number, position.given
        self._start = Position(position.epoch, position.taken)
        self._windows = self._encoded(self._start, told=position.given > 0)
        self._current: _Window | None = None

    @property
    def position(self) -> StepPosition:
        """Where the next step begins."""
        return StepPosition(self._start.epoch, self._start.taken, self._given)

    @property
    def epoch(self) -> int:
        """The epoch (from 0) that is being read."""
        return self._start.epoch

    def step(self, number: int) -> list[list[Unit]]:
        """The micro-batches of step ``number`` (from 0). Later steps are reached through those before them; for earlier
        ones the stream begins anew. Raises ``UsageError`` where an epoch gives no example at all."""
        if number < self._number:
            self.go_to(0, StepPosition())
        while self._number < number:
            self._next_step()
        return self._next_step()

    def _next_step(self) -> list[list[Unit]]:
        self._number += 1
        return [[self._next_unit() for _ in range(self.batch_size)] for _ in range(self.accumulation)]

    def _next_unit(self) -> Unit:
        while self._current is None:
            window = next(self._windows)
            if self._given < len(window.units):
                self._current = window
            else:
                self._start, self._given = window.end, 0
        unit = self._current.units[self._given]
        self._given += 1
        if self._given == len(self._current.units):
            self._start, self._given, self._current = self._current.end, 0, None
        return unit

    def _encoded(self, start: Position, *, told: bool) -> Iterator[_Window]:
        """The windows from ``start`` on. ``told``: the first one's faults are known already."""
        epoch, num_units = start.epoch, int(start.taken > 0)
        for first, last, rows in self._row_windows(start):
            if last.epoch != epoch:
                if not num_units:
                    raise UsageError(
                        "not one row of an epoch can be trained on",
                        where=", ".join(entry.name for entry in self.stream.entries),
                        mend=self._told(),
                    )
                epoch, num_units = last.epoch, 0
            units = self._units(rows, first, tell=not told and last.epoch == 0)
            num_units += len(units)
            told = False
            yield _Window(first, last, units)

    def _row_windows(self, start: Position) -> Iterator[tuple[Position, Position, list[StreamRow]]]:
        first = last = start
        rows: list[StreamRow] = []
        for position, row in self.stream.rows(start):
            if rows and (len(rows) == self.window or position.epoch != last.epoch):
                yield first, last, rows
                first, rows = last, []
            rows.append(row)
            last = position

    def _units(self, rows: Sequence[StreamRow], start: Position, *, tell: bool) -> list[Unit]:
        good = [row for row in rows if row.record is not None]
        found = list(self.encode([row.record for row in good])) if good else []
        examples: list[Any] = [example for example in found if not isinstance(example, RowFault)]
        if tell:
            self.on_rows(len(rows), [row.record for row in good], found)
            for row in faulty_rows(rows, found):
                self._first_fault = self._first_fault or row
                self.on_fault(row)
        return self._blocks(examples, start) if self.block_len else examples

    def _told(self) -> str | None:
        row = self._first_fault
        return None if row is None else f"The first of them: {row.file}, row {row.number}, {row.fault}"

    def _blocks(self, examples: Sequence[Any], start: Position) -> list[Unit]:
        blocks = pack_lengths([len(example.ids) for example in examples], self.block_len)
        if not self.stream.shuffle:
            return [[examples[n] for n in block] for block in sorted(map(sorted, blocks))]
        import numpy as np

        rng = np.random.default_rng((self.stream.seed, start.epoch, start.taken))
        return [[examples[n] for n in blocks[i]] for i in rng.permutation(len(blocks)).tolist()]


def faulty_rows(rows: Sequence[StreamRow], encoded: Sequence[Any]) -> list[StreamRow]:
    """The rows that are no record, and those whose record could not be encoded: ``encoded`` holds what became of each
    record in turn (of text: blocks of them all)."""
    found = [row for row in rows if row.record is None]
    good = (row for row in rows if row.record is not None)
    for row, made in zip(good, encoded, strict=False):
        if isinstance(made, RowFault):
            found.append(replace(row, record=None, fault=made, raw=row.record))
    return found
