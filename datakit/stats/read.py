"""Rows of files or registered datasets to records of one stage; what is no such record is counted with its reason."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from registry.datasets import Layout, find_entry
from registry.errors import RowFault, TunekitError, UsageError, did_you_mean
from registry.formats import READERS, detect, undetected
from registry.manifest import Ledger
from registry.records import Record
from registry.rows import BadRow, Row, read_rows

log = logging.getLogger("tunekit")

# stage -> the kind of record it trains on; None: any, of which the text is taken
KIND_OF_STAGE = {"pt": None, "sft": "chat", "rm": "preference", "dpo": "preference"}
STAGES_OF_KIND = {"text": "pt", "chat": "sft", "preference": "dpo (or rm)", "feedback": "kto"}
MISFITS = 100  # as many rows of another kind before the first that fits, and the source as a whole is refused
SHOWN = 5  # rejected rows that are named one by one


@dataclass(frozen=True, slots=True)
class Source:
    """Files that are read in one way; ``layout`` None means each row as it looks."""

    files: tuple[str, ...]
    layout: Layout | None


@dataclass
class Account:
    """Every row that was read: counted, and of the rejected ones the first few by name."""

    ledger: Ledger = field(default_factory=Ledger)
    examples: list[str] = field(default_factory=list)

    def reject(self, where: str, reason: str) -> None:
        """One more row that is left out; what is peculiar to it (values, positions) goes only into the example."""
        general = re.sub(r"\[\d+\]", "[…]", re.sub(r" \(.*\)$", "", reason, flags=re.DOTALL))
        self.ledger.rejected[general] += 1
        if len(self.examples) < SHOWN:
            self.examples.append(f"{where}: {reason}")


def check_stage(stage: str) -> None:
    """Raise ``UsageError`` for a stage that has no lengths of its own here."""
    if stage not in KIND_OF_STAGE:
        raise UsageError(
            f'unknown stage "{stage}"', where="--stage", mend=f"Known: {', '.join(KIND_OF_STAGE)}. {did_you_mean(stage, KIND_OF_STAGE)}"
        )


def sources_of(src: Sequence[str], dataset: str | None, dataset_dir: Path, stage: str) -> list[Source]:
    """What SRC or ``--dataset`` name. Raises ``UsageError`` for both, neither, or a dataset that does not suit the stage."""
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
        wanted = KIND_OF_STAGE[stage]
        if wanted and entry.layout.kind != wanted:
            raise _wrong_kind(f'dataset "{name}"', entry.layout.kind, stage)
        found.append(Source((str(entry.path),), entry.layout))
    return found


def read_records(sources: Sequence[Source], stage: str, account: Account) -> Iterator[tuple[str, Record]]:
    """(where, record) of every row that suits the stage; all others go into ``account``.

    Raises ``UsageError`` where a source holds only rows of another kind or of no known format.
    """
    for source in sources:
        any_fits = False
        misfits: list[TunekitError] = []
        for row in read_rows(source.files):
            account.ledger.read(row.file)
            if isinstance(row, BadRow):
                account.reject(row.where, row.reason)
                continue
            try:
                record = _record(row, source.layout, stage, misfits)
            except RowFault as fault:
                account.reject(row.where, str(fault) if fault.field != "row" else fault.reason)
                if not any_fits and len(misfits) >= MISFITS:
                    raise misfits[0] from None
                continue
            any_fits = True
            yield row.where, record
        if misfits and not any_fits:
            raise misfits[0]


def _record(row: Row, layout: Layout | None, stage: str, misfits: list[TunekitError]) -> Record:
    """The row as a record. Raises ``RowFault``; a row of the wrong kind also leaves its error in ``misfits``."""
    layout = layout or detect(row.data)
    if layout is None:
        if len(misfits) < MISFITS:
            misfits.append(misfits[0] if misfits else undetected(row.data, row.where))
        raise RowFault("row", "its columns belong to no known format")
    wanted = KIND_OF_STAGE[stage]
    if wanted and layout.kind != wanted:
        if len(misfits) < MISFITS:
            misfits.append(_wrong_kind(row.where, layout.kind, stage))
        raise RowFault("row", f"a {layout.kind} row, which {stage} does not train on")
    return READERS[layout.formatting](row.data, layout)


def _wrong_kind(where: str, kind: str, stage: str) -> UsageError:
    return UsageError(
        f"{kind} rows are not what --stage {stage} trains on, which takes {KIND_OF_STAGE[stage]} rows",
        where=where,
        mend=f"Measure them with --stage {STAGES_OF_KIND[kind]}.",
    )
