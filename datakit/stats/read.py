"""Rows of files or registered datasets to records of one stage; what is no such record is counted with its reason."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from datakit.layout import peek, resolve_layout
from datakit.summary import with_progress
from datakit.write import family
from registry.datasets import Layout, find_entry
from registry.errors import RowFault, UsageError
from registry.formats import READERS
from registry.manifest import Ledger
from registry.records import Record
from registry.rows import BadRow, Row, read_rows
from registry.stages import check_suits

log = logging.getLogger("tunekit")

SHOWN = 5  # rejected rows that are named one by one


@dataclass(frozen=True, slots=True)
class Source:
    """Files that are read in one way; ``layout`` None means as their first rows look."""

    files: tuple[str, ...]
    layout: Layout | None


@dataclass
class Account:
    """Every row that was read: counted, and of the rejected ones the first few by name."""

    ledger: Ledger = field(default_factory=Ledger)
    examples: list[str] = field(default_factory=list)

    def reject(self, where: str, fault: RowFault) -> None:
        """One more row that is left out, counted under its reason's family."""
        self.ledger.rejected[family(fault.field, fault.reason)] += 1
        if len(self.examples) < SHOWN:
            self.examples.append(f"{where}, {fault}" if fault.field else f"{where}: {fault.reason}")


def sources_of(src: Sequence[str], dataset: str | None, dataset_dir: Path) -> list[Source]:
    """What SRC or ``--dataset`` name. Raises ``UsageError`` for both, for neither, or for an unknown dataset."""
    if bool(src) == bool(dataset):
        what = "both SRC and --dataset are given" if src else "there is nothing to measure"
        raise UsageError(what, mend="Give files, or --dataset NAME with --dataset-dir FOLDER.")
    if src:
        return [Source(tuple(src), None)]
    found = []
    for name in filter(None, (part.strip() for part in str(dataset).split(","))):
        entry = find_entry(name, dataset_dir)
        for warning in entry.warnings:
            log.warning("dataset_info.json, %s: %s", name, warning)
        if entry.num_samples:
            log.warning("dataset_info.json, %s: num_samples is passed over, all rows are measured", name)
        found.append(Source((str(entry.path),), entry.layout))
    return found


def read_records(sources: Sequence[Source], stage: str, account: Account) -> Iterator[tuple[str, Record]]:
    """(where, record) of every row that suits the stage; all others go into ``account``.

    Raises ``UsageError`` where the rows of a source are of another kind or of no known format.
    """
    for source in sources:
        head, rows = peek(read_rows(source.files))
        layout = source.layout or resolve_layout("auto", {}, head)
        if layout is not None:
            check_suits(layout.kind, stage, ", ".join(source.files))
        with closing(with_progress(rows, "measuring")) as passing:
            for row in passing:
                account.ledger.read(row.file)
                try:
                    record = _record(row, layout)
                except RowFault as fault:
                    account.reject(row.where, fault)
                else:
                    yield row.where, record


def _record(row: Row | BadRow, layout: Layout | None) -> Record:
    if isinstance(row, BadRow) or layout is None:
        raise RowFault("", row.reason if isinstance(row, BadRow) else "no known format")
    return READERS[layout.formatting](row.data, layout)
