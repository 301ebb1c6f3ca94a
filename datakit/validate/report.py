"""Faults of many rows, gathered by code with the first example of each, as a table or as JSON."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datakit.outcome import Outcome
from datakit.summary import in_colour, say, visible
from datakit.validate.codes import Level, all_codes
from datakit.validate.faults import SHOWN, Fault
from datakit.validate.hidden import as_example

MOST_PLACES = 20  # of one code, that are counted by themselves
_COLOURS = {"error": "\x1b[31m", "warning": "\x1b[33m"}
_INDEX = re.compile(r"(?<=/)\d+(?=/|$)")


@dataclass
class Kind:
    """All faults of one code: how many, in how many rows, and the first one with its place."""

    first: Fault
    level: Level
    file: str
    row: int
    offset: int | None
    count: int = 0
    rows: int = 0
    mended: int = 0
    fixable: int = 0
    places: Counter[str] = field(default_factory=Counter)
    last: tuple[str, int] = ("", 0)  # file and row of the one counted last


@dataclass
class Report:
    """Faults by code, and by file how many rows had any. It grows with the files, not with the rows."""

    levels: Mapping[str, Level]
    kinds: dict[str, Kind] = field(default_factory=dict)
    warned: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)

    def add(self, fault: Fault, file: str, row: int, offset: int | None, *, mended: bool = False) -> None:
        """Count one fault; the first of its code is kept as the example."""
        kind = self.kinds.get(fault.code)
        if kind is None:
            kind = self.kinds[fault.code] = Kind(as_example(fault), self.levels[fault.code], file, row, offset)
        kind.count += 1
        kind.mended += mended
        kind.fixable += fault.fixable
        if kind.last != (file, row):
            kind.rows += 1
            kind.last = (file, row)
        place = _INDEX.sub("*", fault.pointer)
        if place in kind.places or len(kind.places) < MOST_PLACES:
            kind.places[place] += 1

    @property
    def has_errors(self) -> bool:
        """Whether any fault is an error that was not mended."""
        return any(kind.level == "error" and kind.count > kind.mended for kind in self.kinds.values())

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` and the manifest tell: errors first, the most frequent first among them."""
        ordered = sorted(self.kinds.items(), key=lambda item: (item[1].level != "error", -item[1].count, item[0]))
        return {
            "faults": [_entry(code, kind) for code, kind in ordered],
            "rows_with_warnings": self.warned.total(),
            "rows_mended": self.mended.total(),
            "mended": {code: kind.mended for code, kind in ordered if kind.mended},
        }

    def files(self, rows: Mapping[str, int]) -> list[dict[str, Any]]:
        """A line for each file; ``rows`` says how many were read from it."""
        return [
            {
                "file": file,
                "rows": count,
                "warned": self.warned[file],
                "rejected": self.rejected[file],
                "mended": self.mended[file],
            }
            for file, count in rows.items()
        ]


def _entry(code: str, kind: Kind) -> dict[str, Any]:
    known, first = all_codes()[code], kind.first
    return {
        "code": code,
        "title": known.title,
        "level": kind.level,
        "count": kind.count,
        "rows": kind.rows,
        "mended": kind.mended,
        "file": kind.file,
        "row": kind.row,
        "offset": kind.offset,
        "pointer": first.pointer,
        "field": first.field,
        "reason": first.reason,
        "value": visible(first.value[:SHOWN]),
        "span": list(first.span) if first.span else None,
        "mend": known.mend,
        "fixable": kind.fixable,
        "places": dict(kind.places.most_common()),
    }


def told(fault: Fault, level: Level) -> dict[str, Any]:
    """One fault in the rejects file."""
    entry = {"code": fault.code, "level": level, "pointer": fault.pointer, "reason": fault.reason}
    if fault.span:
        entry["span"] = list(fault.span)  # type: ignore[assignment]
    return entry | {"fixable": fault.fixable}


def show_report(outcome: Outcome) -> None:
    """The table of faults on stdout, for people."""
    details = outcome.details
    stage = f", for stage {details['stage']}" if details["stage"] else ""
    texts = "" if details["text_rules"] else "; structure rules only"
    say(f"format {details['format'] or 'unknown: no row can be read'}{stage}{texts}")
    say(_counts(outcome))
    faults = details["faults"]
    if not faults:
        return
    header = ("count", "level", "code", "fault", "first at")
    cells = [
        (
            f"{fault['count']:,}",
            "mended" if fault["mended"] == fault["count"] else fault["level"],
            fault["code"],
            visible(fault["title"]),
            f"{fault['file']}, row {fault['row']}{_field(fault)}",
        )
        for fault in faults
    ]
    widths = [max(len(row[i]) for row in (header, *cells)) for i in range(len(header))]
    say("\n" + _line(header, widths, ""))
    for row, fault in zip(cells, faults, strict=True):
        say(_line(row, widths, _COLOURS[fault["level"]] if in_colour() else ""))
        indent = " " * (sum(widths[:3]) + 6)
        if fault["reason"] != fault["title"]:
            say(f"{indent}{visible(fault['reason'])}")
        if fault["value"]:
            say(f"{indent}e.g. {_on_a_line(fault['value'])}")
    left = [fault["code"] for fault in faults if fault["fixable"] > fault["mended"]]
    for flag, codes in (
        ("--fix", [c for c in left if c != "CH004"]),
        ("--fix-text", [c for c in left if c == "CH004"]),
    ):
        if codes:
            say(f"\n{flag} --clean FILE mends what is sure of {', '.join(codes)}")


def _counts(outcome: Outcome) -> str:
    warned, mended = outcome.details["rows_with_warnings"], outcome.details["rows_mended"]
    beside = [f"{warned:,} of them with warnings"] if warned else []
    beside += [f"{mended:,} mended"] if mended else []
    aside = f" ({', '.join(beside)})" if beside else ""
    return f"{outcome.rows_in:,} rows: {outcome.rows_out:,} good{aside}, {outcome.num_rejected:,} with errors"


def _on_a_line(value: str) -> str:
    return visible(value).replace("\n", "\\n").replace("\t", "\\t")


def _field(fault: Mapping[str, Any]) -> str:
    return f", {visible(fault['field'])}" if fault["field"] else ""


def _line(cells: tuple[str, ...], widths: list[int], colour: str) -> str:
    padded = [
        cells[0].rjust(widths[0]),
        *(cell.ljust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)),
    ]
    if colour:
        padded[1] = f"{colour}{padded[1]}\x1b[0m"
    return "  ".join(padded).rstrip()
