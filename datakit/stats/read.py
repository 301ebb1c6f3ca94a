"""Rows of files or registered datasets to records of one stage, or straight to turns; what is neither is counted with its reason."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, groupby
from pathlib import Path

from datakit.layout import AUTO, HEAD_ROWS, resolve_conversations, resolve_layout
from datakit.stats.roles import PlainRow
from datakit.stats.sample import Sample, draw_rows
from datakit.stats.straight import Shortcut, shortcut_for
from datakit.summary import with_progress
from datakit.write import family
from registry.batches import batched
from registry.blocks import Block, Item, numbered_lines, read_blocks, rows_in, rows_of_block, rows_of_item
from registry.datasets import Layout, find_entry
from registry.errors import RowFault, UsageError
from registry.formats import READERS, detect
from registry.manifest import Ledger
from registry.records import Record
from registry.render import Renderer
from registry.rows import BadRow, Row, row_of_line
from registry.sources import expand_sources
from registry.stages import check_suits

log = logging.getLogger("tunekit")

SHOWN = 5  # rejected rows that are named one by one
BATCH_ROWS = 512  # rows handed to the tokenizer at once
BLOCK_BYTES = 1 << 19  # JSON lines handed to it at once: some hundred rows as well


@dataclass(frozen=True, slots=True)
class Source:
    """Files that are read in one way; ``layout`` None means as their first rows look. ``name`` is the dataset's, None
    where each file is told apart by its own name."""

    files: tuple[str, ...]
    layout: Layout | None
    name: str | None = None


@dataclass
class Account:
    """Every row that was read: counted, and of the rejected ones the first few by name."""

    ledger: Ledger = field(default_factory=Ledger)
    examples: list[str] = field(default_factory=list)
    rejected_of: Counter[str] = field(default_factory=Counter)  # by part: a file or a dataset
    sample: Sample | None = None

    def reject(self, place: tuple[str, int], fault: RowFault, name: str | None = None) -> None:
        """One more row that is left out, counted under its reason's family, and under its dataset or file."""
        file, row = place
        self.ledger.rejected[family(fault.field, fault.reason)] += 1
        self.rejected_of[name or file] += 1
        if len(self.examples) < SHOWN:
            where = f"{file}, row {row}"
            self.examples.append(f"{where}, {fault}" if fault.field else f"{where}: {fault.reason}")


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows, each with the file and number it has; ``name`` is that of their dataset, if they have one.

    A row is a record, all of one kind, or already its one plain turn of question and answer with its system text.
    """

    places: list[tuple[str, int]]
    rows: list[Record | PlainRow]
    name: str | None


def sources_of(src: Sequence[str], dataset: str | None, dataset_dir: Path) -> list[Source]:
    """What SRC or ``--dataset`` name. Raises ``UsageError`` for both, for neither, or for an unknown dataset."""
    if bool(src) == bool(dataset):
        what = "both SRC and --dataset are given" if src else "there is nothing to measure"
        raise UsageError(what, mend="Give files, or --dataset NAME with --dataset-dir FOLDER.")
    if src:
        return [Source(tuple(expand_sources(src)), None)]
    found = []
    for name in filter(None, (part.strip() for part in str(dataset).split(","))):
        entry = find_entry(name, dataset_dir)
        for warning in entry.warnings:
            log.warning("dataset_info.json, %s: %s", name, warning)
        if entry.num_samples:
            log.warning("dataset_info.json, %s: num_samples is passed over, all rows are measured", name)
        if entry.slices:
            log.warning("dataset_info.json, %s: the slice of its split is passed over, all rows are measured", name)
        found.append(Source(tuple(expand_sources(entry.sources)), entry.layout, name))
    return found


def read_batches(sources: Sequence[Source], stage: str, renderer: Renderer, account: Account) -> Iterator[Batch]:
    """The rows that suit the stage, some hundred at a time; all others go into ``account``.

    Raises ``UsageError`` where the rows of a source are of another kind or of no known format.
    """
    for source in sources:
        head, items = _peek(read_blocks(source.files, size=BLOCK_BYTES))
        layout = _layout(source, head, stage)
        shortcut = shortcut_for(layout, renderer, (row.data for row in head)) if stage == "sft" else None
        with closing(with_progress(items, "measuring", size=rows_in)) as passing:
            for is_block, run in groupby(passing, key=lambda item: isinstance(item, Block)):
                for chunk in ([block] for block in run) if is_block else batched(run, BATCH_ROWS):
                    if isinstance(chunk[0], Block) and shortcut and shortcut.on:
                        yield _straight(chunk[0], shortcut, source.name, account)
                        continue
                    rows = list(rows_of_block(chunk[0])) if isinstance(chunk[0], Block) else chunk
                    for file, count in Counter(row.file for row in rows).items():
                        account.ledger.read(file, count)
                    yield _batch(rows, layout, source.name, account)  # type: ignore[arg-type]


def draw_batches(sources: Sequence[Source], stage: str, account: Account, size: int, seed: int) -> Iterator[Batch]:
    """As ``read_batches``, of ``size`` rows drawn at random from all."""
    drawn, num_of = draw_rows([source.files for source in sources], size, seed)
    account.sample = Sample(len(drawn), num_of.total(), seed)
    account.ledger.filtered["--sample"] = account.sample.num_all - account.sample.num_rows
    for file, count in num_of.items():
        account.ledger.read(file, count)
    for number, source in enumerate(sources):
        rows = [row for of, row in drawn if of == number]
        layout = _layout(source, [row for row in rows if isinstance(row, Row)][:HEAD_ROWS], stage)
        for chunk in batched(rows, BATCH_ROWS):
            yield _batch(chunk, layout, source.name, account)


def _peek(items: Iterator[Item]) -> tuple[list[Row], Iterator[Item]]:
    """The readable ones of the first rows, and all items again. Stops at the first row that tells its format."""
    passed: list[Item] = []
    readable: list[Row] = []
    for item in items:
        passed.append(item)
        for row in rows_of_item(item):
            readable += [row] if isinstance(row, Row) else []
            if len(readable) == HEAD_ROWS:
                break
        if len(readable) == HEAD_ROWS or any(detect(row.data) for row in readable):
            break
    return readable, chain(passed, items)


def _layout(source: Source, head: Sequence[Row], stage: str) -> Layout | None:
    layout = source.layout or resolve_conversations(AUTO, {}, head) or resolve_layout(AUTO, {}, head)
    if layout is not None:
        check_suits(layout.kind, stage, _named(source.files))
    return layout


def _named(files: Sequence[str]) -> str:
    return ", ".join(files) if len(files) < 4 else f"{files[0]} and {len(files) - 1:,} more files"


def _batch(rows: Iterable[Row | BadRow], layout: Layout | None, name: str | None, account: Account) -> Batch:
    batch = Batch([], [], name)
    for row in rows:
        try:
            batch.rows.append(_record(row, layout))
            batch.places.append((row.file, row.number))
        except RowFault as fault:
            account.reject((row.file, row.number), fault, name)
    return batch


def _record(row: Row | BadRow, layout: Layout | None) -> Record:
    if isinstance(row, BadRow) or layout is None:
        raise RowFault("", row.reason if isinstance(row, BadRow) else "no known format")
    return READERS[layout.formatting](row.data, layout)


def _straight(block: Block, shortcut: Shortcut, name: str | None, account: Account) -> Batch:
    """The rows of a block, most of them by the shortcut; the first of these goes both ways."""
    batch, layout, file, lines = Batch([], [], name), shortcut.layout, block.file, numbered_lines(block)
    account.ledger.read(file, len(lines))
    for number, line, cut in lines:
        found = shortcut.turns(line) if shortcut.on else None
        if found is None or not batch.rows:
            row = row_of_line(file, number, line, cut=cut)
            try:
                record = _record(row, layout)
            except RowFault as fault:
                account.reject((file, number), fault, name)
                continue
            if isinstance(row, Row) and found is None:
                shortcut.learn(row.data)
            if found is None or not shortcut.confirm(found, record, row.where):
                batch.rows.append(record)
                batch.places.append((file, number))
                continue
        batch.rows.append(found)
        batch.places.append((file, number))
    return batch
