"""What validate found as one HTML page that needs nothing beside it, made from the object that --json prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from datakit.page import answer, heading, note, page, paragraph, table

VALUE_LENGTH = 120  # characters of an example's value that are shown
MOST_KINDS = 500  # kinds of faults, and files, that are listed; the rest is counted
_HEADS = ("count", "level", "code", "what is wrong, and how to mend it", "the first one")
_SHARES = (("good", "#2e8b57"), ("good, with warnings", "#d9a514"), ("with errors", "#c0392b"))


def validate_page(report: Mapping[str, Any]) -> str:
    """The page for a ``report`` such as ``datakit validate --json`` prints; every text of it is escaped.

    Read are ``rows_in``, ``rows_out``, ``rows_with_warnings`` (those among the good rows), ``format``, ``stage``,
    ``seconds``, ``faults`` and ``files``; all but the first may be missing. A fault is a mapping with ``code``,
    ``title``, ``level``, ``count``, ``field``, ``file``, ``row``, ``value``, ``mend``, ``fixable``; a file is its
    path, or a mapping with ``file``, ``rows``, ``warned``, ``rejected``.
    """
    rows, good = int(report["rows_in"]), int(report.get("rows_out", report["rows_in"]))
    warned = min(int(report.get("rows_with_warnings") or 0), good)
    faults = list(report.get("faults") or ())
    return page(
        "What validate found",
        answer(_headline(rows, good, warned), _context(report, rows)),
        _bar((good - warned, warned, rows - good)),
        *_fault_sections(faults),
        *_file_sections(list(report.get("files") or ())),
    )


def _headline(rows: int, good: int, warned: int) -> str:
    if not rows:
        return "There are no rows."
    if good == rows and not warned:
        return f"All {rows:,} rows are good." if rows > 1 else "The row is good."
    bad = rows - good
    parts = [f"{bad:,} of {rows:,} rows {'has' if bad == 1 else 'have'} errors"] if bad else []
    if warned:
        parts.append(f"{warned:,} {'row has' if warned == 1 else 'rows have'} warnings only")
    if not bad:
        parts.insert(0, f"none of {rows:,} rows has errors")
    text = "; ".join(parts) + "."
    return text[0].upper() + text[1:]


def _context(report: Mapping[str, Any], rows: int) -> str:
    seconds = float(report.get("seconds") or 0)
    parts = [f"format {report['format']}"] if report.get("format") else []
    parts += [f"stage {report['stage']}"] if report.get("stage") else []
    parts += [f"{rows / seconds:,.0f} rows a second"] if seconds > 0.05 else []
    return " · ".join(parts)


def _bar(counts: Sequence[int]) -> str:
    """One line as wide as the page, cut by how many rows are good, warned of, and bad, with its legend as text."""
    total = sum(counts)
    if not total:
        return ""
    pieces = "".join(
        f'<span style="flex:{count} 0 3px;background:{colour}"></span>'
        for count, (_, colour) in zip(counts, _SHARES, strict=True)
        if count
    )
    legend = "".join(
        f'<span style="margin-right:1.4rem;white-space:nowrap"><span style="display:inline-block;width:.8em;height:.8em;'
        f"border-radius:2px;margin-right:.4em;background:{colour};print-color-adjust:exact;"
        f'-webkit-print-color-adjust:exact"></span>{name}: {count:,} ({_share(count, total)})</span>'
        for count, (name, colour) in zip(counts, _SHARES, strict=True)
    )
    bar = (
        '<div role="img" aria-label="shares of good rows, of rows with warnings and of rows with errors" '
        'style="display:flex;gap:2px;height:1.1rem;border-radius:4px;overflow:hidden;margin:1.2rem 0 .5rem;'
        f'print-color-adjust:exact;-webkit-print-color-adjust:exact">{pieces}</div>'
    )
    return f"{bar}<p>{legend}</p>"


def _share(count: int, total: int) -> str:
    """A share in per cent that is never rounded to none or to all."""
    if count in (0, total):
        return "0%" if not count else "100%"
    return f"{min(max(100 * count / total, 0.01), 99.99):.2f}%"


def _fault_sections(faults: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    if not faults:
        yield paragraph("No fault was found.")
        return
    yield heading("Faults by code")
    yield note("Errors first, the most frequent first among them. A row may have several faults.")
    yield table(_HEADS, (_fault_cells(fault) for fault in faults[:MOST_KINDS]), right=(0, 1, 2))
    if len(faults) > MOST_KINDS:
        rest = sum(int(fault.get("count", 1)) for fault in faults[MOST_KINDS:])
        yield note(f"{len(faults) - MOST_KINDS:,} more kinds with {rest:,} faults are in the report of --json.")


def _fault_cells(fault: Mapping[str, Any]) -> tuple[str, ...]:
    value = str(fault.get("value") or "")
    if len(value) > VALUE_LENGTH:
        value = value[:VALUE_LENGTH] + "…"
    mend = str(fault.get("mend") or "")
    if fault.get("fixable") and "--fix" not in mend:
        mend = f"{mend} --fix can do it.".lstrip()
    row = f", row {fault['row']}" if fault.get("row") is not None else ""
    place = str(fault.get("file") or "") + row
    return (
        f"{int(fault.get('count', 1)):,}",
        str(fault.get("level") or ""),
        str(fault.get("code") or ""),
        _lines(str(fault.get("title") or fault.get("reason") or ""), f"→ {mend}" if mend else ""),
        _lines(place, str(fault.get("field") or ""), f"e.g. {value}" if value else ""),
    )


def _lines(*parts: str) -> str:
    return "\n".join(part for part in parts if part)


def _file_sections(files: Sequence[Any]) -> Iterable[str]:
    if not files:
        return
    yield heading("Files")
    if all(isinstance(file, Mapping) for file in files):
        heads = ("file", "rows", "good", "with warnings", "with errors")
        yield table(heads, (_file_cells(file) for file in files[:MOST_KINDS]), right=(1, 2, 3, 4))
    else:
        yield table(("file",), ((str(file),) for file in files[:MOST_KINDS]))
    if len(files) > MOST_KINDS:
        yield note(f"{len(files) - MOST_KINDS:,} more files are in the report of --json.")


def _file_cells(file: Mapping[str, Any]) -> tuple[str, ...]:
    rows, rejected, warned = (int(file.get(name) or 0) for name in ("rows", "rejected", "warned"))
    return str(file.get("file", "")), f"{rows:,}", f"{rows - rejected:,}", f"{warned:,}", f"{rejected:,}"
