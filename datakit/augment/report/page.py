"""The report of an augment run as one HTML page that needs nothing beside it, made from what ``--json`` prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from datakit.augment.report.show import (
    DIVERSITY_HEADS,
    calls_line,
    codes_of,
    cost_line,
    diversity_cells,
    headline,
    length_cells,
    share,
)
from datakit.page import answer, heading, note, page, paragraph, table
from datakit.summary import visible

_KEPT = "#2e8b57"
# of reasons, in the order in which they are told
_COLOURS = (
    "#c0392b",
    "#d9a514",
    "#2f62b0",
    "#8e5bb5",
    "#5a6478",
    "#d9772b",
    "#3a9fa8",
    "#a8577e",
    "#7a8b2e",
    "#8d97a8",
)


def augment_page(report: Mapping[str, Any]) -> str:
    """The page for what ``AugmentReport.as_json`` tells; every text of it is escaped."""
    return page(
        "What augment made",
        answer(headline(report) + ".", cost_line(report)),
        _bar(report),
        *_recipes(report["recipes"]),
        *_dropped(report["dropped"]),
        *_lengths(report["lengths"]),
        *_diversity(report["diversity"]),
        heading("Calls"),
        paragraph(calls_line(report["calls"]) + "."),
    )


def _bar(report: Mapping[str, Any]) -> str:
    """One line as wide as the page: rows kept, and rows dropped by reason, with its legend as text."""
    pieces = [("kept", int(report["rows"]["kept"]), _KEPT)]
    pieces += [
        (str(entry["reason"]), int(entry["count"]), _COLOURS[at % len(_COLOURS)])
        for at, entry in enumerate(report["dropped"])
    ]
    total = sum(count for _, count, _ in pieces)
    if not total:
        return ""
    printed = "print-color-adjust:exact;-webkit-print-color-adjust:exact"
    bar = "".join(
        f'<span style="flex:{count} 0 3px;background:{colour}"></span>' for _, count, colour in pieces if count
    )
    legend = "".join(
        '<span style="margin-right:1.4rem;white-space:nowrap"><span style="display:inline-block;width:.8em;height:.8em;'
        f'border-radius:2px;margin-right:.4em;background:{colour};{printed}"></span>'
        f"{escape(visible(name))}: {count:,} ({share(count / total)})</span> "
        for name, count, colour in pieces
    )
    return (
        '<div role="img" aria-label="shares of rows kept, and of rows dropped by reason" '
        'style="display:flex;gap:2px;height:1.1rem;border-radius:4px;overflow:hidden;margin:1.2rem 0 .5rem;'
        f'{printed}">{bar}</div><p>{legend}</p>'
    )


def _recipes(recipes: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    if recipes:
        yield heading("Rows by recipe")
        cells = (
            (r["recipe"], *(f"{r[k]:,}" for k in ("asked", "made", "kept")), share(r["share_kept"])) for r in recipes
        )
        yield table(("recipe", "asked", "made", "kept", "share kept"), cells, right=(1, 2, 3, 4))


def _dropped(dropped: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    yield heading("Why rows were dropped")
    if not dropped:
        yield paragraph("No row was dropped.")
        return
    yield note("Each row counts once, under the first reason found. Rows that may hold a secret are not shown.")
    cells = (
        (
            f"{entry['count']:,}",
            entry["reason"],
            f"{entry['meaning']}{codes_of(entry)}",
            "\n".join(text for text in (entry["detail"], entry["example"]) if text),
        )
        for entry in dropped
    )
    yield table(("rows", "reason", "what it means", "for example"), cells, right=(0,))


def _lengths(lengths: Mapping[str, Any]) -> Iterable[str]:
    rows = [(name, *length_cells(lengths[name])) for name in ("seeds", "kept") if lengths[name]["rows"]]
    if rows:
        yield heading("Length before and after")
        heads = ("", "rows", "median, characters", "95% up to", "median, tokens", "95% up to")
        yield table(heads, rows, right=(1, 2, 3, 4, 5))
        yield note(
            "All turns of a row together. Tokens are counted by rule of thumb: datakit stats counts as training does."
        )


def _diversity(found: Mapping[str, Any]) -> Iterable[str]:
    rows = [diversity_cells(name, found[name]) for name in ("seeds", "kept") if found[name]["rows_looked_at"]]
    if rows:
        yield heading("Variety")
        yield table(("", *DIVERSITY_HEADS[1:]), rows, right=(1, 2, 3, 4, 5, 6))
        yield note(
            f"distinct-n is the share of runs of n tokens that are different, in the same number of tokens "
            f"({found['tokens_compared']:,}) of seeds and of kept rows; higher is more varied. A family are rows that are "
            f"alike: {found['alike_from']:g} or more of their runs of three tokens in common. Of many rows a sample is looked at."
        )
