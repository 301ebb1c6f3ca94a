"""The rows of a run as an endless stream that is never loaded whole and goes on exactly where it stopped."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, count, cycle, islice
from typing import TYPE_CHECKING, Any

from registry.datasets import DatasetEntry
from registry.errors import RowFault, UsageError
from registry.formats import READERS, STRICT_READERS
from registry.formats.media import check_no_media
from registry.records import Record
from registry.rows import BadRow, Row, read_rows
from registry.sources import expand_sources
from trainkit.data.mixing import DRAWS, STRATEGIES, check_probs

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger("tunekit")

BUFFER_SIZE = 16_384  # rows, as LLaMA-Factory's default
Read = Callable[[], Iterator[Row | BadRow]]
Numbered = tuple[int, Row | BadRow]  # the dataset's number, and a row of it
_END: Any = object()


@dataclass(frozen=True, slots=True)
class Position:
    """How far a stream has come: ``taken`` rows of ``epoch`` (from 0) are behind it, those of all ranks counted."""

    epoch: int = 0
    taken: int = 0


@dataclass(frozen=True, slots=True)
class StreamRow:
    """A row of a stream with its place: its record, or the fault by which it has none, and then what it holds."""

    dataset: int
    file: str
    number: int
    record: Record | None
    fault: RowFault | None = None
    raw: Any = None


@dataclass(frozen=True)
class RowStream:
    """The rows of several datasets, mixed, shuffled and shared out; the same for the same values, whenever it is read.

    Each epoch reads every file from its start, mixes the datasets (``strategy`` and ``probs`` as ``trainkit.data.mixing``,
    ended as the datasets library ends a streamed mix: with the very row that uses a dataset up), and shuffles through a
    buffer of ``buffer_size`` rows, by a NumPy generator of seed and epoch. Of the stream's first epoch the first
    ``num_held_out`` rows are kept for evaluation (``held_out``), and passed over wherever they come again. Of the rest
    ``rank`` of ``world`` takes every ``world``-th row, so that together the ranks see each row once an epoch.
    Memory holds the buffer and what the readers hold of a file.
    """

    entries: tuple[DatasetEntry, ...]
    strategy: str = "concat"
    probs: tuple[float, ...] | None = None
    seed: int = 42
    buffer_size: int = BUFFER_SIZE
    shuffle: bool = True
    num_held_out: int = 0
    max_samples: int | None = None  # rows of each dataset, from its start
    rank: int = 0
    world: int = 1
    strict: bool = False

    def __post_init__(self) -> None:
        check_probs(self.probs, len(self.entries), strategy=self.strategy)
        for entry in self.entries:
            check_streamable(entry)

    def rows(self, start: Position = Position()) -> Iterator[tuple[Position, StreamRow]]:
        """This rank's rows after ``start``, without end; each with the position behind it.

        What lies before ``start`` is read and shuffled again, but made no record. Raises ``UsageError`` where a file
        cannot be read, and where an epoch has no row for this rank.
        """
        held = self._held_keys
        for epoch in count(start.epoch):
            skipped = start.taken if epoch == start.epoch else 0
            place, num_mine = 0, 0
            for dataset, row in self._epoch(epoch):
                if (row.file, row.number) in held:
                    continue
                mine = place % self.world == self.rank
                place += 1
                num_mine += mine
                if mine and place > skipped:
                    yield Position(epoch, place), self._located(dataset, row)
            if not num_mine:
                raise self._nothing_left(place)

    def held_out(self) -> list[StreamRow]:
        """The rows kept for evaluation, the same for every rank."""
        return [self._located(dataset, row) for dataset, row in self._held]

    @cached_property
    def _held(self) -> list[Numbered]:
        return list(islice(self._epoch(0), self.num_held_out)) if self.num_held_out else []

    @cached_property
    def _held_keys(self) -> frozenset[tuple[str, int]]:
        return frozenset((row.file, row.number) for _, row in self._held)

    @cached_property
    def _files(self) -> list[list[str]]:
        """The files of each dataset, looked up once: what is added to a folder later would shift all rows."""
        return [expand_sources(entry.sources) for entry in self.entries]

    def _epoch(self, epoch: int) -> Iterator[Numbered]:
        """All rows of one epoch, mixed and shuffled."""
        readers = [self._reader(number) for number in range(len(self.entries))]
        mixed = streamed_mix(readers, self.strategy, self.probs, _rng(self.seed, epoch))
        return shuffled(mixed, self.buffer_size, _rng(self.seed, epoch)) if self.shuffle else mixed

    def _reader(self, number: int) -> Read:
        entry, files = self.entries[number], self._files[number]

        def read() -> Iterator[Row | BadRow]:
            slices = entry.slices or (None,)
            parts = (
                islice(read_rows(files, keep_blank_lines=self.strict), *((s.start, s.stop) if s else (None,)))
                for s in slices
            )
            return islice(chain.from_iterable(parts), self.max_samples)

        return read

    def _located(self, dataset: int, row: Row | BadRow) -> StreamRow:
        if isinstance(row, BadRow):
            return StreamRow(dataset, row.file, row.number, None, RowFault("row", row.reason), row.raw)
        layout, readers = self.entries[dataset].layout, READERS
        if self.strict:
            layout, readers = replace(layout, weights=False), STRICT_READERS
        try:
            record = readers[layout.formatting](row.data, layout)
            check_no_media(row.data, record, layout)
            return StreamRow(dataset, row.file, row.number, record)
        except RowFault as fault:
            return StreamRow(dataset, row.file, row.number, None, fault, row.data)

    def _nothing_left(self, num_rows: int) -> UsageError:
        where = ", ".join(entry.name for entry in self.entries)
        if not num_rows:
            return UsageError(
                f"all rows are held out (val_size {self.num_held_out}), and none is left to train on", where=where
            )
        return UsageError(
            f"an epoch has {num_rows} rows for {self.world} processes", where=where, mend="Start fewer of them."
        )


def check_streamable(entry: DatasetEntry) -> None:
    """Raise ``UsageError`` for a slice that only the number of all rows could tell, which a stream does not know;
    warn of ``num_samples``, which LLaMA-Factory passes over when streaming too."""
    for one in entry.slices:
        if one.percent or any(at is not None and at < 0 for at in (one.start, one.stop)):
            raise UsageError(
                f"the slice {one} needs the number of all rows, which a stream does not know",
                where=entry.name,
                mend="Name the rows from the start, as in  train[:1000]  , or set streaming: false.",
            )
    if entry.num_samples is not None:
        log.warning("%s: num_samples is passed over, as a stream does not know all rows", entry.name)


def streamed_mix(
    readers: Sequence[Read], strategy: str, probs: Sequence[float] | None, rng: np.random.Generator
) -> Iterator[Numbered]:
    """The rows of all readers, mixed: (number of the reader, row).

    As ``datasets.interleave_datasets`` of iterable datasets (5.2.0, iterable_dataset.py): without ``probs`` in turn,
    else drawn; it ends as soon as one reader (under) or every one (over, once) has given its last row. Raises
    ``UsageError`` for a reader without rows.
    """
    ending = STRATEGIES[strategy] if len(readers) > 1 else None
    if ending is None:
        for number, read in enumerate(readers):
            for row in read():
                yield number, row
        return
    iterators = [read() for read in readers]
    waiting = [next(rows, _END) for rows in iterators]  # a row ahead, to know the last one when it comes
    for number, row in enumerate(waiting):
        if row is _END:
            raise UsageError(f"dataset {number + 1} has no row, so there is nothing to interleave")
    used_up = [False] * len(readers)
    over = any if ending == "first_exhausted" else all
    for number in cycle(range(len(readers))) if probs is None else _draws(probs, rng):
        if waiting[number] is _END:
            continue
        yield number, waiting[number]
        waiting[number] = next(iterators[number], _END)
        if waiting[number] is _END:
            used_up[number] = True
            if over(used_up):
                return
            if ending == "all_exhausted":
                iterators[number] = readers[number]()
                waiting[number] = next(iterators[number])


def _draws(probs: Sequence[float], rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from rng.choice(len(probs), size=DRAWS, p=probs).tolist()


def shuffled(rows: Iterator[Numbered], buffer_size: int, rng: np.random.Generator) -> Iterator[Numbered]:
    """``rows`` through a buffer: once it is full, each further row takes the place of one drawn at random, which goes
    out; what is left at the end is shuffled (as datasets up to 4.0, which LLaMA-Factory 0.9.5 installs)."""
    buffer: list[Numbered] = []
    slots: Iterator[int] = iter(())
    for row in rows:
        if len(buffer) < buffer_size:
            buffer.append(row)
            continue
        slot = next(slots, None)
        if slot is None:
            slots = iter(rng.integers(0, buffer_size, size=DRAWS).tolist())
            slot = next(slots)
        yield buffer[slot]
        buffer[slot] = row
    rng.shuffle(buffer)
    yield from buffer


def _rng(seed: int, epoch: int) -> np.random.Generator:
    """The first epoch's generator is that of the seed alone, as LLaMA-Factory's."""
    import numpy as np

    return np.random.default_rng((seed, epoch) if epoch else seed)
