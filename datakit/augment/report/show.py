"""The report of an augment run on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datakit.summary import in_colour, say, visible


def show(report: Mapping[str, Any]) -> None:
    """Print on stdout what ``AugmentReport.as_json`` tells."""
    for line in report_lines(report, colour=in_colour()):
        say(line)


def report_lines(report: Mapping[str, Any], *, colour: bool = False) -> list[str]:
    """The report as lines of text."""
    lines = [headline(report), *_recipes(report["recipes"])]
    lines += _dropped(report["dropped"], colour=colour)
    lines += _lengths(report["lengths"]) + _diversity(report["diversity"])
    lines += ["", calls_line(report["calls"])]
    cost = cost_line(report)
    return [*lines, cost] if cost else lines


def headline(report: Mapping[str, Any]) -> str:
    """Rows kept, of how many made and asked for."""
    rows = report["rows"]
    seeds = f" of {rows['seeds']:,} seed{'' if rows['seeds'] == 1 else 's'}" if rows["seeds"] else ""
    wanted = f" ({rows['asked']:,} asked for)" if rows["asked"] and rows["asked"] != rows["made"] else ""
    return f"{rows['kept']:,} {'row' if rows['kept'] == 1 else 'rows'} kept, {rows['dropped']:,} dropped: {rows['made']:,} made{seeds}{wanted}"


def calls_line(calls: Mapping[str, Any]) -> str:
    """What became of the calls, in one sentence."""
    failed = dict(calls["failed"])
    parts = [f"{calls['answered']:,} answered", f"{calls['from_store']:,} from the store"]
    if failed:
        parts.append(f"{sum(failed.values()):,} failed ({', '.join(f'{n:,} {name}' for name, n in failed.items())})")
    tokens = f"; {calls['prompt_tokens']:,} tokens in, {calls['completion_tokens']:,} out"
    time = f"; {calls['seconds']:,.1f} s" if calls["seconds"] else ""
    at_once = f", up to {calls['concurrency']:,} at once" if calls["concurrency"] else ""
    return f"{calls['calls']:,} calls: {', '.join(parts)}{tokens}{time}{at_once}"


def cost_line(report: Mapping[str, Any]) -> str:
    """What the run cost, and each row that is kept; nothing where no price is known."""
    calls, each = report["calls"], report["cost_per_kept_row"]
    if calls["cost"] is None:
        return ""
    of_row = f", {money(each, calls['currency'])} a kept row" if each is not None else ""
    return f"cost: {money(calls['cost'], calls['currency'])}{of_row}"


def money(amount: float, currency: str) -> str:
    """An amount with as many digits as it takes to see it: two, or the first two that are not 0."""
    spelled = (
        f"{amount:,.2f}" if amount >= 0.1 or not amount else f"{amount:.2g}" if amount >= 1e-4 else f"{amount:.1e}"
    )
    return f"{spelled} {currency}"


def share(part: float | None) -> str:
    """A share in per cent, never rounded to none or to all; a dash where there is none."""
    if part is None:
        return "-"
    if part in (0, 1):
        return f"{part:.0%}"
    return f"{min(max(100 * part, 0.1), 99.9):.1f}%"


def _recipes(recipes: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        (visible(r["recipe"]), f"{r['asked']:,}", f"{r['made']:,}", f"{r['kept']:,}", share(r["share_kept"]))
        for r in recipes
    ]
    return _table(("recipe", "asked", "made", "kept", "share"), rows) if rows else []


def _dropped(dropped: Sequence[Mapping[str, Any]], *, colour: bool) -> list[str]:
    if not dropped:
        return []
    lines = _table(
        ("dropped", "reason", "what it means"),
        [(f"{entry['count']:,}", entry["reason"], entry["meaning"] + codes_of(entry)) for entry in dropped],
        left=(1, 2),
        beneath=[
            [f"e.g. {entry['detail']}", entry["example"] or "(not shown: it may hold a secret)"] for entry in dropped
        ],
    )
    return [f"\x1b[33m{line}\x1b[0m" if colour and at == 1 else line for at, line in enumerate(lines)]


def codes_of(entry: Mapping[str, Any]) -> str:
    """The codes of validate that rows were dropped for, with their number."""
    codes = entry["codes"]
    return f" ({', '.join(f'{count:,} {code}' for code, count in codes.items())})" if codes else ""


def _lengths(lengths: Mapping[str, Any]) -> list[str]:
    rows = [(name, *length_cells(lengths[name])) for name in ("seeds", "kept") if lengths[name]["rows"]]
    return _table(("length", "rows", "median", "95% up to", "about tokens", "95% up to"), rows) if rows else []


def length_cells(of: Mapping[str, int]) -> tuple[str, ...]:
    """Rows, characters, and tokens."""
    return tuple(f"{of[key]:,}" for key in ("rows", "chars_median", "chars_p95", "tokens_median", "tokens_p95"))


DIVERSITY_HEADS = ("variety", "distinct-1", "distinct-2", "distinct-3", "families", "rows in them", "rows a family")


def diversity_cells(name: str, of: Mapping[str, Any]) -> tuple[str, ...]:
    """One line of the table under ``DIVERSITY_HEADS``."""
    distinct = (of[f"distinct_{size}"] for size in (1, 2, 3))
    shares = ("-" if value is None else f"{value:.3f}" for value in distinct)
    alike = f"{of['rows_in_families']:,} ({share(of['share_in_families'])})"
    return name, *shares, f"{of['families']:,}", alike, f"{of['rows_per_family']:.1f}" if of["families"] else "-"


def _diversity(found: Mapping[str, Any]) -> list[str]:
    rows = [diversity_cells(name, found[name]) for name in ("seeds", "kept") if found[name]["rows_looked_at"]]
    return _table(DIVERSITY_HEADS, rows) if rows else []


def _table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    left: Sequence[int] = (0,),
    beneath: Sequence[Sequence[str]] = (),
) -> list[str]:
    """An empty line, the heads and the rows in columns; ``beneath`` are lines that follow each row."""
    widths = [max(len(row[at]) for row in (heads, *rows)) for at in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(w) if at in left else cell.rjust(w)
            for at, (cell, w) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    lines = ["", line(heads)]
    for at, row in enumerate(rows):
        lines.append(line(row))
        lines += [" " * (widths[0] + 2) + text for text in (beneath[at] if beneath else ())]
    return lines
