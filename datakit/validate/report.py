"""Faults of many rows, gathered by field and reason with the first example of each, as a table or as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from datakit.outcome import Outcome
from datakit.summary import in_colour, say, visible
from datakit.validate.structure import Level
from datakit.write import family

VALUE_LENGTH = 120  # characters of an example's value that are shown
_COLOURS = {"error": "\x1b[31m", "warning": "\x1b[33m"}


@dataclass
class Kind:
    """All faults of one family: how many, and where the first one is."""

    field: str
    reason: str
    level: Level
    file: str
    row: int
    value: str
    count: int = 0


@dataclass
class Report:
    """Faults by family. It grows with the number of families, not with the rows."""

    kinds: dict[tuple[str, Level], Kind] = field(default_factory=dict)
    num_warned_rows: int = 0

    def add(self, file: str, row: int, name: str, reason: str, level: Level, value: str) -> None:
        """Count one fault; the first of its family is kept as the example."""
        key = (family(name, reason), level)
        if key not in self.kinds:
            self.kinds[key] = Kind(name, reason, level, file, row, visible(value[:VALUE_LENGTH]))
        self.kinds[key].count += 1

    def as_json(self) -> list[dict[str, Any]]:
        """Errors first, the most frequent first among them."""
        ordered = sorted(self.kinds.values(), key=lambda kind: (kind.level != "error", -kind.count))
        names = ("reason", "level", "count", "file", "row", "field", "value")
        return [{name: getattr(kind, name) for name in names} for kind in ordered]


def show_report(outcome: Outcome) -> None:
    """The table of faults on stdout, for people."""
    faults = outcome.details["faults"]
    stage = outcome.details["stage"]
    say(f"format {outcome.details['format'] or 'unknown: no row can be read'}{f', for stage {stage}' if stage else ''}")
    warned = outcome.details["rows_with_warnings"]
    warnings = f" ({warned:,} of them with warnings)" if warned else ""
    say(f"{outcome.rows_in:,} rows: {outcome.rows_out:,} good{warnings}, {outcome.num_rejected:,} with errors")
    if not faults:
        return
    header = ("count", "level", "field", "reason", "first at")
    cells = [
        (
            f"{f['count']:,}",
            f["level"],
            visible(f["field"]) or "-",
            visible(f["reason"]),
            f"{f['file']}, row {f['row']}",
        )
        for f in faults
    ]
    widths = [max(len(row[i]) for row in (header, *cells)) for i in range(len(header))]
    say("\n" + _line(header, widths, ""))
    for row, fault in zip(cells, faults, strict=True):
        say(_line(row, widths, _COLOURS[fault["level"]] if in_colour() else ""))
        if fault["value"]:
            say(" " * (widths[0] + 4) + f"e.g. {visible(fault['value'])}")


def _line(cells: tuple[str, ...], widths: list[int], colour: str) -> str:
    padded = [
        cells[0].rjust(widths[0]),
        *(cell.ljust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)),
    ]
    if colour:
        padded[1] = f"{colour}{padded[1]}\x1b[0m"
    return "  ".join(padded).rstrip()
