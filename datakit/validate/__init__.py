"""Every row against what its format and its training stage ask of it, with each fault told by row, field and reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from datakit.layout import AUTO, ColumnWatch, describe_format, lookup, peek, reach, resolve_layout
from datakit.outcome import Outcome
from datakit.summary import with_progress
from datakit.validate.report import Report
from datakit.validate.structure import CHECKS, Fault
from datakit.write import STDOUT, Sink, open_sink
from registry.datasets import Layout
from registry.errors import RowFault, UsageError, did_you_mean
from registry.formats import LAYOUTS, READERS
from registry.records import PreferenceRecord, Record, TextRecord
from registry.rows import BadRow, Row, read_rows
from registry.sources import expand_sources
from registry.stages import check_stage, check_suits

_INDEX = re.compile(r"messages\[(\d+)\]")


def validate_rows(
    src: Iterable[str | Path],
    *,
    format_name: str = AUTO,
    stage: str | None = None,
    mapping: Mapping[str, str] | None = None,
    clean: Path | None = None,
    rejects: Path | None = None,
) -> Outcome:
    """Check every row of ``src``. The exit code is 1 where any row has an error; warnings alone leave it at 0.

    ``clean`` gets the rows without an error, unchanged; ``rejects`` (by default beside ``clean``) the others.
    ``rows_out`` counts rows without an error whether they are written or not. ``details`` hold ``faults``.
    Raises ``UsageError`` for what is wrong as a whole, rows of a kind that ``stage`` cannot learn from included.
    """
    mapping = dict(mapping or {})
    if format_name not in (AUTO, *LAYOUTS):
        known = (AUTO, *LAYOUTS)
        mend = f"{did_you_mean(format_name, known)} Known: {', '.join(known)}.".lstrip()
        raise UsageError(f'unknown format "{format_name}"', where="--format", mend=mend)
    if str(clean) == STDOUT:
        raise UsageError("the report goes to stdout, so the clean rows need a file", where="--clean")
    files = expand_sources(src)
    if stage is not None:
        check_stage(stage)
    head, rows = peek(read_rows(files), format_name)
    layout = resolve_layout(format_name, mapping, head)
    if layout is not None and stage is not None:
        check_suits(layout.kind, stage, ", ".join(files))
    watch, report = ColumnWatch.of(mapping), Report()
    dotted = [column for column in mapping.values() if "." in column]
    with open_sink(clean, rejects, files) as sink, closing(with_progress(rows, "checking")) as passing:
        for row in passing:
            sink.ledger.read(row.file)
            if isinstance(row, BadRow) or layout is None:
                reason = row.reason if isinstance(row, BadRow) else "no format"
                report.add(row.file, row.number, "", reason, "error", "")
                sink.reject(row, "", reason)
                continue
            watch.look(row.data)
            data = reach(row.data, dotted) if dotted else row.data
            _judge(row, faults_of(data, layout), sink, report)
        watch.check(", ".join(files))
        details = {
            "format": describe_format(layout) if layout else None,
            "stage": stage,
            "faults": report.as_json(),
            "rows_with_warnings": report.num_warned_rows,
        }
        outcome = sink.close_books("validate", {"format": format_name, "stage": stage, "map": mapping}, files, details)
    return replace(outcome, exit_code=1 if outcome.num_rejected else 0)


def faults_of(data: Mapping[str, Any], layout: Layout) -> list[Fault]:
    """Every fault of one row, in the names of its own columns."""
    try:
        record = READERS[layout.formatting](data, layout)
    except RowFault as fault:
        value = lookup(data, fault.field)
        shown = "" if value is None or isinstance(value, list | dict) else str(value)
        return [Fault(fault.field, fault.reason, "error", shown)]
    found = [fault for check in CHECKS.values() for fault in check(record)]
    return [replace(fault, field=spell_field(fault.field, record, layout, data)) for fault in found]


def spell_field(part: str, record: Record, layout: Layout, data: Mapping[str, Any]) -> str:
    """A part of a record as the user's own file calls it: ``messages[1]`` → ``answer`` or ``conversations[2].value``."""
    columns = layout.columns
    index = _INDEX.fullmatch(part)
    if index is None or isinstance(record, TextRecord):
        own = columns.prompt if part == "text" else getattr(columns, part, None)
        return own or (str(columns.messages) + "[0]" if part == "system" else part)
    at = int(index[1])
    if layout.formatting != "alpaca":
        turns = data[str(columns.messages)]
        skipped = len(turns) - len(record.prompt if isinstance(record, PreferenceRecord) else record.messages)
        return f"{columns.messages}[{at + skipped}].{layout.tags.content_tag}"
    num_history = 2 * len(data.get(str(columns.history)) or ())
    if at < num_history:
        return f"{columns.history}[{at // 2}][{at % 2}]"
    return str(columns.prompt if at == num_history else columns.response)


def _judge(row: Row, faults: list[Fault], sink: Sink, report: Report) -> None:
    """Enter a row's faults into the report, and the row among the clean ones or the rejects."""
    for fault in faults:
        report.add(row.file, row.number, fault.field, fault.reason, fault.level, fault.value)
    worst = next((fault for fault in faults if fault.level == "error"), None)
    if worst is None:
        try:
            sink.accept(row, row.data)
        except RowFault as fault:
            worst = Fault(fault.field, fault.reason)
            report.add(row.file, row.number, worst.field, worst.reason, "error", "")
    if worst is not None:
        sink.reject(row, worst.field, worst.reason)
    elif faults:
        report.num_warned_rows += 1
