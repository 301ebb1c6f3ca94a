"""What can be told of a batch of rows by itself, in whichever process: the faults of its rows, and their ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from datakit.layout import ColumnWatch
from datakit.validate.batch import Batch, batch_of_block, batch_of_rows, id_column_of, ids_of
from datakit.validate.codes import Level
from datakit.validate.find import Finder
from datakit.validate.screen import Screen
from registry.blocks import Block, Piece
from registry.datasets import Layout
from registry.rows import Row

NOTHING = Block("", 1, 0, b"")


@dataclass(frozen=True, slots=True)
class Looked:
    """A batch with the faults of its rows, but for repeated ids; ``ids`` are those of the rows, empty where none has
    one, and ``id_column`` is the name of rows that decoded, where they have but one. ``watch`` knows the mapped columns that were not met so far. The block is left out: whoever asks has it."""

    batch: Batch
    ids: Sequence[Any]
    id_column: str | None
    watch: ColumnWatch


@dataclass(frozen=True)
class Wanted:
    """What rows are looked at for; ``head`` are the first of them that can be read."""

    layout: Layout
    mapping: Mapping[str, str]
    levels: Mapping[str, Level]
    text: bool
    head: tuple[Row, ...]


def looker(wanted: Wanted) -> Callable[[Piece], Looked]:
    """What looks at one batch after the other, and learns from each how to pass the next ones faster."""
    finder = Finder.of(wanted.layout, wanted.mapping, wanted.levels, text=wanted.text)
    judge = finder.judge
    screen = Screen(judge.layout, passing=bool(wanted.head) and not judge.dotted)
    watch = ColumnWatch.of(wanted.mapping)
    for row in wanted.head:
        if not judge.faults(row.data):
            screen.learn(row.data)

    def look(item: Piece) -> Looked:
        batch = batch_of_block(item, screen, judge) if isinstance(item, Block) else batch_of_rows(item, judge)
        finder.find(batch)
        if watch.wanted:
            _watch(batch, watch)
        ids = ids_of(batch) if "RD007" in wanted.levels else []
        id_column = id_column_of(batch)
        if batch.screened is not None:
            batch.screened = replace(batch.screened, block=NOTHING, columns=None, places=(), suspects=frozenset())
        return Looked(batch, ids, id_column, watch)

    return look


def _watch(batch: Batch, watch: ColumnWatch) -> None:
    """Take note of the columns that rows of a batch have."""
    for row in batch.read.values():
        if isinstance(row, Row):
            watch.look(row.data)
    columns = batch.screened.columns if batch.screened is not None else None
    if columns is not None:
        import msgspec

        for part, column in columns.kind.parts.items():
            if column in watch.wanted and any(value is not msgspec.UNSET for value in columns[part]):
                watch.wanted.discard(column)
