"""Rows in batches, each with the line it will be written as, and with the keys and n-grams by which it is compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from datakit.dedup.bands import Bands, band_keys
from datakit.dedup.fields import Fields
from datakit.dedup.grams import TextGrams, tokens_of_rows
from datakit.dedup.normal import key_of
from datakit.layout import ColumnWatch
from datakit.values import encode_row
from datakit.workers import in_order
from registry.blocks import Block, Item, Piece, numbered_lines
from registry.errors import RowFault
from registry.rows import BadRow, Row, decode_json, row_of_line

if TYPE_CHECKING:
    import numpy as np

    from datakit.dedup.tokens import Grams

SURELY_SHALLOW = 200  # objects and lists in a line that need no look at how deep they are nested


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is needed of each row beside its line."""

    fields: Fields = field(default_factory=Fields)
    key: bool = False
    normalise: bool = True
    shingle: int | None = None  # tokens in the n-grams of a row, for near duplicates
    bands: Bands | None = None  # their bands
    ngram: int | None = None  # tokens in the n-grams of each text, for an evaluation set

    @property
    def texts(self) -> bool:
        return self.shingle is not None or self.ngram is not None


class Bad(NamedTuple):
    """A row that is rejected, because it cannot be read or must not be written."""

    row: Row | BadRow
    field: str
    reason: str


@dataclass(slots=True)
class Batch:
    """Some rows of one file that follow each other. What is not wanted is empty, or None."""

    file: str
    numbers: list[int] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    bad: dict[int, Bad] = field(default_factory=dict)  # by index
    changes: dict[int, Counter[str]] = field(default_factory=dict)  # what spelling a line changed
    shingles: Grams | None = None  # of each row
    bands: np.ndarray | None = None  # [bands, rows]; of a row without n-grams they say nothing
    texts: TextGrams | None = None
    watch: ColumnWatch = field(default_factory=lambda: ColumnWatch(set(), {}))

    def __len__(self) -> int:
        return len(self.numbers)


def look_at(items: Iterator[Item], wanted: Wanted, workers: int = 1) -> Iterator[Batch]:
    """All rows in batches, in order; those in blocks of lines may go to other processes (see ``datakit.workers``)."""
    looking = in_order(items, _looker, (wanted,), workers)
    with closing(looking):
        for _, batch in looking:
            yield batch


def _looker(wanted: Wanted) -> Callable[[Piece], Batch]:
    def look(item: Piece) -> Batch:
        if isinstance(item, Block):
            return look_at_block(item, wanted)
        return look_at_rows(item[0].file, item, wanted)

    return look


def look_at_block(block: Block, wanted: Wanted) -> Batch:
    """The rows of JSON lines, each line as it stands there: not a digit of it is spelled anew."""
    batch = _Growing(block.file, wanted)
    for number, line, cut in numbered_lines(block):
        try:
            data = decode_json(line)
        except orjson.JSONDecodeError:
            data = None
        if type(data) is dict:
            batch.add(number, data, line.strip())
        else:
            row = row_of_line(block.file, number, line, cut=cut)
            batch.reject(number, row, "", row.reason if isinstance(row, BadRow) else "")
    return batch.whole()


def look_at_rows(file: str, rows: Sequence[Row | BadRow], wanted: Wanted) -> Batch:
    """Rows of other containers."""
    batch = _Growing(file, wanted)
    for row in rows:
        if isinstance(row, Row):
            batch.add(row.number, row.data, None)
        else:
            batch.reject(row.number, row, "", row.reason)
    return batch.whole()


class _Growing:
    """A batch to which one row after the other is added."""

    def __init__(self, file: str, wanted: Wanted) -> None:
        self._wanted = wanted
        self._batch = Batch(file, watch=ColumnWatch(set(wanted.fields.columns), {}))
        self._texts: list[list[str]] = []
        self._marks: list[tuple[int, int]] = []

    def add(self, number: int, data: dict[str, Any], line: bytes | None) -> None:
        """One row, and the JSON that it was read from. A row that cannot be written is none to drop others for."""
        batch, wanted = self._batch, self._wanted
        try:
            if line is None:
                changes: Counter[str] = Counter()
                line = encode_row(data, changes)
                if changes:
                    batch.changes[len(batch)] = changes
            elif line.count(b"[") + line.count(b"{") > SURELY_SHALLOW:
                encode_row(data, Counter())  # refuses what is nested too deep for whoever reads it next
            key = None
            if wanted.key and (value := wanted.fields.value(data)) is not None:
                key = key_of(value, normalise=wanted.normalise)
            texts = wanted.fields.texts(data) if wanted.texts else []
            mark = wanted.fields.mark(data) if wanted.shingle is not None else (0, 0)
        except RowFault as fault:
            self.reject(number, Row(batch.file, number, data), fault.field, fault.reason)
            return
        if batch.watch.wanted:
            batch.watch.look(data)
        self._append(number, line, key, texts, mark)

    def reject(self, number: int, row: Row | BadRow, field: str, reason: str) -> None:
        """One row that is not compared."""
        self._batch.bad[len(self._batch)] = Bad(row, field, reason)
        self._append(number, b"", None, [], (0, 0))

    def _append(self, number: int, line: bytes, key: bytes | None, texts: list[str], mark: tuple[int, int]) -> None:
        self._batch.numbers.append(number)
        self._batch.lines.append(line)
        if self._wanted.key:
            self._batch.keys.append(key)
        if self._wanted.texts:
            self._texts.append(texts)
            self._marks.append(mark)

    def whole(self) -> Batch:
        """The batch, when all rows were added."""
        batch, wanted = self._batch, self._wanted
        if wanted.texts:
            tokens = tokens_of_rows(self._texts)
            if wanted.shingle is not None:
                batch.shingles = tokens.shingles(wanted.shingle, self._marks)
            if wanted.bands is not None and batch.shingles is not None:
                batch.bands = band_keys(batch.shingles, wanted.bands)
            if wanted.ngram is not None:
                batch.texts = tokens.by_text(wanted.ngram)
        return batch
