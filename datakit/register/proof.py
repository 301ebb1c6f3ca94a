"""The proof of an entry: its own rows, read by it and encoded as training would."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datakit.layout import describe_format
from datakit.preview import count_tokens, open_renderer, spans_of
from datakit.write import family
from registry.datasets import FILE_NAME, DatasetEntry, Layout
from registry.errors import RowFault, UsageError
from registry.formats import READERS
from registry.records import Record
from registry.remote import is_remote
from registry.rows import BadRow, Row
from registry.sources import expand_sources

log = logging.getLogger("tunekit")

MOST_TRIED = 100  # records encoded, at most
PLAIN_TEMPLATE = "default"  # renders any conversation where neither a model nor a template is given


@dataclass
class Reading:
    """How many rows became records by an entry; why the others did not, and where the first of these stands."""

    num_rows: int = 0
    by_file: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    first_fault: str | None = None
    records: list[tuple[str, Record]] = field(default_factory=list)  # the first ones, each with where it stands

    @property
    def num_read(self) -> int:
        return self.num_rows - self.rejected.total()


def read_by(layout: Layout, rows: Sequence[tuple[str, Row | BadRow]], reading: Reading) -> None:
    """Read ``rows``, each given with where it stands, and enter what comes of them into ``reading``."""
    for where, row in rows:
        reading.num_rows += 1
        reading.by_file[row.file] += 1
        try:
            if isinstance(row, BadRow):
                raise RowFault("", row.reason)
            record = READERS[layout.formatting](row.data, layout)
        except RowFault as fault:
            told = str(fault) if fault.field else fault.reason
            reading.first_fault = reading.first_fault or f"{where}, {told.rstrip('. ')}"
            reading.rejected[family(fault.field, fault.reason)] += 1
            continue
        if len(reading.records) < MOST_TRIED:
            reading.records.append((where, record))


def check_reading(reading: Reading, layout: Layout, file: str) -> None:
    """Raise ``UsageError`` where no row became a record; warn where some did not."""
    if not reading.rejected:
        return
    if not reading.num_read:
        raise UsageError(
            f"none of the {reading.num_rows:,} rows looked at can be read as {describe_format(layout)}; {reading.first_fault}",
            where=file,
            mend="Set --formatting, --columns or --tags as the rows are, or convert them first: datakit convert --to alpaca",
        )
    log.warning(
        "%s of the %s rows looked at cannot be used, e.g. %s. See all: datakit validate %s",
        f"{reading.rejected.total():,}", f"{reading.num_rows:,}", reading.first_fault, file,
    )  # fmt: skip


def encode_records(records: Sequence[tuple[str, Record]], model: Path | None, template: str | None) -> dict[str, Any]:
    """How the records encode with a model's tokenizer, or (without one) render with a built-in template.

    The first that does is told with its counts. Raises ``UsageError`` for unusable models and unknown templates.
    """
    named = template if template is not None or model is not None else PLAIN_TEMPLATE
    tokenizer, renderer = open_renderer(model, named)
    assert renderer is not None
    encoded, faults = 0, Counter[str]()
    example: dict[str, Any] = {}
    for where, record in records:
        try:
            spans = spans_of(record, renderer, tokenizer)
            tokens = count_tokens(record, renderer, tokenizer) if tokenizer else None
        except RowFault as fault:
            faults[family(fault.field, fault.reason)] += 1
            continue
        encoded += 1
        if not example:
            characters = {
                name: {
                    "characters": sum(len(s.text) for s in parts),
                    "trained": sum(len(s.text) for s in parts if s.trained),
                }
                for name, parts in spans.items()
            }
            example = {"row": where, "tokens": tokens, "rendered": characters}
    return {
        "tokenizer": str(model) if model is not None else None,
        "template": named if named is not None else "the tokenizer's own",
        "tried": len(records),
        "encoded": encoded,
        "not_encoded": dict(faults.most_common()),
        "example": example or None,
    }


def check_loaded(entry: DatasetEntry, proven: DatasetEntry, files: Sequence[str]) -> None:
    """Raise ``UsageError`` where the entry in dataset_info.json is not the one that was proven, or names other files."""
    where = f'{entry.folder / FILE_NAME}, "{entry.name}"'
    if (entry.layout, entry.sources) != (proven.layout, proven.sources):
        raise UsageError("another process has written this entry in the meantime", where=where)
    named = expand_sources(entry.sources, warn=False)
    if [_real(file) for file in named] != [_real(file) for file in files]:
        raise UsageError(f"it leads to {', '.join(named)}, not to {', '.join(files)}", where=where)


def _real(file: str) -> str:
    return file if is_remote(file) else os.path.realpath(file)


def tell(reading: Reading, num_first: int, encoding: dict[str, Any]) -> None:
    """Log what was proven, in two lines."""
    num_spread = reading.num_rows - num_first
    spread = f"the first {num_first:,} and {num_spread:,} from all over the rest" if num_spread else "all there are"
    log.info("proven: it reads %s of %s rows (%s)", f"{reading.num_read:,}", f"{reading.num_rows:,}", spread)
    example, template = encoding["example"], encoding["template"]
    if example is None:
        reasons = "; ".join(f"{count:,} × {reason}" for reason, count in encoding["not_encoded"].items())
        log.warning("not proven: none of %s rows could be encoded: %s", f"{encoding['tried']:,}", reasons)
        return
    count = f"{encoding['encoded']:,} of {encoding['tried']:,} rows"
    if encoding["tokenizer"]:
        tokens = ", ".join(
            f"{name} {c['tokens']:,} tokens, {c['trained']:,} trained" for name, c in example["tokens"].items()
        )
        log.info(
            "proven: %s encode with %s and template %s; %s: %s",
            count,
            encoding["tokenizer"],
            template,
            example["row"],
            tokens,
        )
    else:
        log.info("proven: %s render with template %s (--model FOLDER proves the tokens as well)", count, template)
