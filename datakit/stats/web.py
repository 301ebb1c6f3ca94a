"""The report as one HTML page that needs nothing beside it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from datakit import page
from datakit.stats import tables
from datakit.stats.plot import DARK, LIGHT, draw_lengths
from datakit.stats.suggest import percent
from registry.manifest import tool_version

if TYPE_CHECKING:
    from datakit.stats.suggest import Ordered

MOST_FILES = 20


def report_page(rows: Ordered, summary: dict[str, Any], files: tuple[str, ...]) -> str:
    """The page; ``rows`` are the lengths in tokens, sorted, and ``files`` what they were read from."""
    light, dark = io.BytesIO(), io.BytesIO()
    draw_lengths(rows, summary, light, LIGHT)
    draw_lengths(rows, summary, dark, DARK)
    told = (tables.length_table, tables.candidate_table, tables.side_table, tables.role_table, tables.source_table)
    found = [table for tell in told if (table := tell(summary))]
    suggested = summary["suggested_cutoff_len"]
    alt = f"Histogram of {summary['unit']} lengths in tokens, with the suggested cutoff_len of {suggested:,} marked"
    return page.page(
        "Token lengths",
        page.paragraph(tables.headline(summary)),
        page.note(note) if (note := tables.estimate_note(summary)) else "",
        page.answer(*tables.suggestion(summary)),
        page.picture(light.getvalue(), alt, dark=dark.getvalue()),
        *(section for table in found for section in _section(table)),
        *_rejected(summary),
        page.heading("How it was measured"),
        page.table(("", ""), _method(summary, files)),
    )


def _section(table: tables.Table) -> tuple[str, ...]:
    right = [i for i in range(len(table.heads)) if i not in table.left]
    body = page.table(table.heads, table.rows, right=right, mark=table.mark)
    return (page.heading(table.title), body, page.note(table.note) if table.note else "")


def _rejected(summary: dict[str, Any]) -> tuple[str, ...]:
    if not summary["rejected"]:
        return ()
    rows = [(f"{count:,}", reason) for reason, count in summary["rejected"].items()]
    examples = "; ".join(summary["rejected_examples"])
    return (
        page.heading("Rejected rows"),
        page.table(("rows", "reason"), rows, right=[0]),
        page.note(f"For example: {examples}") if examples else "",
    )


def _method(summary: dict[str, Any], files: tuple[str, ...]) -> list[tuple[str, str]]:
    shown = ", ".join(files[:MOST_FILES]) + (
        f" and {len(files) - MOST_FILES:,} more" if len(files) > MOST_FILES else ""
    )
    own = "none, plain text" if summary["stage"] == "pt" else "the tokenizer's own"
    limit = summary["model_limit"]
    estimate = summary["estimate"]
    drawn = f"{estimate['sampled_rows']:,} drawn at random, seed {estimate['seed']}" if estimate else "all"
    facts = {
        "data": shown,
        "rows": f"{summary['rows_in']:,} in the data; measured: {drawn}; rejected: {sum(summary['rejected'].values()):,}",
        "stage": summary["stage"],
        "tokenizer": summary["tokenizer"],
        "template": summary["template"] or own,
        "ids made by": summary["backend"],
        "model's limit": f"{limit:,} tokens" if limit else "none named",
        "target": f"{percent(summary['target'])} of the rows whole",
        "a step": f"batch size {summary['batch_size']}, gradient accumulation {summary['gradient_accumulation']}"
        + (", packed" if summary["packing"] else ""),
        "measured with": f"datakit stats, tunekit {tool_version()}",
    }
    if summary["unit"] == "text":
        del facts["target"]
    return list(facts.items())
