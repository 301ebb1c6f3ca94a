"""Rows that are judged together: a block of JSON lines or some rows of another file, with the faults found so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from datakit.layout import reach
from datakit.validate.faults import Fault, pointer
from datakit.validate.ids import FIELDS, id_of
from datakit.validate.reading import fault_of_bad_row, faults_of_row, read_line
from datakit.validate.screen import Screen, Screened
from datakit.validate.structure import faults_of
from registry.blocks import Block
from registry.datasets import Layout
from registry.rows import BadRow, Row


@dataclass
class Batch:
    """Rows of one file in order. What is keyed by a number is keyed by the row's index here.

    ``read`` holds the rows that were read out; of a screened block all others were passed as they lie. ``faults``
    are those of rows that have any. ``anew`` are rows whose line is no JSON as it lies, though the row could be read.
    """

    file: str
    numbers: Sequence[int]
    read: dict[int, Row | BadRow] = field(default_factory=dict)
    faults: dict[int, list[Fault]] = field(default_factory=dict)
    anew: set[int] = field(default_factory=set)
    screened: Screened | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def offset(self, index: int) -> int | None:
        """Where a row's line begins in its file, in bytes; None where the file has no lines of JSON."""
        screened = self.screened
        return screened.block.offset + screened.starts[index] if screened is not None else None

    def row(self, index: int) -> Row | BadRow:
        """One row, read out now if it was not before."""
        if index not in self.read:
            assert self.screened is not None
            self.read[index] = read_line(self.file, self.numbers[index], self.screened.line(index), cut=False)[0]
        return self.read[index]


@dataclass(frozen=True, slots=True)
class Judge:
    """Finds the faults of a row's structure; ``dotted`` columns lie within others."""

    layout: Layout
    dotted: tuple[str, ...] = ()

    def seen(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """A row with the dotted columns as columns of their own."""
        return reach(data, self.dotted) if self.dotted else data

    def faults(self, data: Mapping[str, Any]) -> list[Fault]:
        """The faults of one row, with their places in the row as it lies."""
        found = faults_of(self.seen(data), self.layout)
        return [replace(fault, pointer=self.place(fault.pointer, data)) for fault in found] if self.dotted else found

    def place(self, seen: str, data: Mapping[str, Any]) -> str:
        """The pointer in the row as it lies for one in the row as ``seen``."""
        for name in self.dotted:
            flat = pointer(name)
            if name not in data and (seen == flat or seen.startswith(flat + "/")):
                return pointer(*name.split(".")) + seen[len(flat) :]
        return seen


def batch_of_block(block: Block, screen: Screen, judge: Judge) -> Batch:
    """The rows of a block, screened, the suspects among them looked at thoroughly."""
    screened = screen.look(block)
    batch = Batch(block.file, screened.numbers, screened=screened)
    ended = block.data.endswith(b"\n")
    decoded = set(screened.places) if len(screened.places) < len(batch) else range(len(batch))
    for index in sorted(screened.suspects):
        cut = not ended and index == len(batch) - 1
        row, faults = read_line(block.file, batch.numbers[index], screened.line(index), cut=cut)
        batch.read[index] = row
        if any(fault.code == "RD010" for fault in faults):
            batch.anew.add(index)
        if isinstance(row, Row):
            found = judge.faults(row.data)
            if not found and not faults and index not in decoded:
                screen.learn(row.data)
            faults = faults + found
        if faults:
            batch.faults[index] = faults
    return batch


def batch_of_rows(rows: Sequence[Row | BadRow], judge: Judge) -> Batch:
    """Rows of one file that are no lines of JSON."""
    batch = Batch(rows[0].file, [row.number for row in rows], dict(enumerate(rows)))
    for index, row in enumerate(rows):
        if isinstance(row, BadRow):
            batch.faults[index] = [fault_of_bad_row(row)]
        elif faults := (judge.faults(row.data) + faults_of_row(row.data)):
            batch.faults[index] = faults
    return batch


def id_column_of(batch: Batch) -> str | None:
    """What the ids of the decoded rows are called, where there is one name for all."""
    columns = batch.screened.columns if batch.screened is not None else None
    names = [name for name in FIELDS if name in columns.kind.others.values()] if columns is not None else []
    return names[0] if len(names) == 1 else None


def ids_of(batch: Batch) -> Sequence[Any]:
    """The id of each row, None where it has none; empty where no row has one."""
    import msgspec

    screened = batch.screened
    columns = screened.columns if screened is not None else None
    ids: list[Any] = [None] * len(batch)
    attributes: list[str] = []
    if screened is not None and columns is not None:
        names = {name: attribute for attribute, name in columns.kind.others.items()}
        attributes = [names[name] for name in FIELDS if name in names]
        unsure = columns.kind.optional | columns.kind.nested
        if len(columns) == len(batch) and len(attributes) == 1 and attributes[0] not in unsure:
            return columns[attributes[0]]
        for attribute in reversed(attributes):  # the first name goes before the others
            for place, value in zip(screened.places, columns[attribute], strict=True):
                ids[place] = ids[place] if value is msgspec.UNSET else value
        ids = [None if isinstance(value, list | dict) else value for value in ids]
    for index, row in batch.read.items():
        if isinstance(row, Row):
            ids[index] = id_of(row.data)
    return ids if attributes or batch.read else []
