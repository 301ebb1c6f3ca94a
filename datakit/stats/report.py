"""What was measured, told: tables on a terminal, one JSON object, an HTML page."""

from __future__ import annotations

import base64
import html as html_lib
import io
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datakit.stats.lengths import BATCH_SIZE, AtCutoff, Totals, at_cutoff, in_blocks, totals
from datakit.stats.measure import Measured
from datakit.stats.suggest import ladder, percent, suggest_block, suggest_cutoff
from registry.atomic import atomic_file
from registry.command import print_json
from registry.errors import UsageError

log = logging.getLogger("tunekit")

PERCENTILES = ("50", "90", "95", "99", "99.9", "100")
CANDIDATE_HEADS = ("cutoff_len", "rows cut", "tokens lost", "trained lost", "padding", "packed", "steps")
BLOCK_HEADS = ("cutoff_len", "blocks", "tokens dropped", "share", "steps")


def summarize(measured: Measured) -> dict[str, Any]:
    """The object that ``--json`` prints: everything the tables, the page and the plot show.

    Lengths are in tokens; percentiles are by nearest rank, so each is the length of some row; shares are between 0
    and 1. The fields of ``at_suggestion`` and of each candidate are those of ``AtCutoff``.
    """
    lengths = measured.lengths
    rows = lengths.rows()
    ordered = sorted(rows)
    whole = totals(lengths)
    if lengths.kind == "text":
        suggestion = suggest_block(whole.num_tokens, measured.model_limit, opens_with_bos=measured.opens_with_bos)
        steps = ladder(64, max(suggestion.cutoff_len, 4096), suggestion.cutoff_len, measured.model_limit)
    else:
        suggestion = suggest_cutoff(ordered, measured.target, measured.model_limit)
        steps = ladder(_percentile(ordered, 50), ordered[-1], suggestion.cutoff_len, measured.model_limit)
    candidates = [asdict(_at(measured, step, whole)) for step in steps]
    ledger = measured.account.ledger
    return {
        "rows": len(lengths),
        "tokens": whole.num_tokens,
        "trained_tokens": whole.num_trained,
        "percentiles": {name: _percentile(ordered, float(name)) for name in PERCENTILES},
        "mean": round(sum(rows) / len(rows), 2),
        "suggested_cutoff_len": suggestion.cutoff_len,
        "reason": suggestion.reason,
        "at_suggestion": next(c for c in candidates if c["cutoff_len"] == suggestion.cutoff_len),
        "candidates": candidates,
        "batch_size": BATCH_SIZE,
        "target": measured.target,
        "stage": measured.stage,
        "template": measured.template,
        "tokenizer": measured.tokenizer,
        "backend": measured.backend,
        "model_limit": measured.model_limit,
        "rows_in": ledger.rows_in,
        "rejected": dict(ledger.rejected.most_common()),
        "rejected_examples": measured.account.examples,
        "seconds": round(ledger.seconds, 3),
    }


def _percentile(ordered: Sequence[int], percentage: float) -> int:
    return ordered[max(math.ceil(percentage / 100 * len(ordered) - 1e-9), 1) - 1]


def _at(measured: Measured, cutoff_len: int, whole: Totals) -> AtCutoff:
    if measured.lengths.kind == "text":
        return in_blocks(whole.num_tokens, cutoff_len, opens_with_bos=measured.opens_with_bos)
    return at_cutoff(measured.lengths, cutoff_len, whole)


def finish_stats(measured: Measured, *, plot: Path | None, html: Path | None, json: bool, quiet: bool) -> None:
    """Print the report (or the JSON object) on stdout and write the files that were asked for."""
    summary = summarize(measured)
    written = write_files(measured, summary, plot=plot, html=html)
    if json:
        print_json(summary)
    else:
        _print_tables(summary)
    for path in written:
        log.info("written: %s", path)
    for reason, count in summary["rejected"].items():
        log.warning("%s rejected: %s", f"{count:,} row{'s' if count > 1 else ''}", reason)
    for example in summary["rejected_examples"]:
        log.info("  e.g. %s", example)


def check_targets(plot: Path | None, html: Path | None) -> None:
    """Raise ``UsageError`` for files that could not be written, before anything is measured."""
    for path, endings in ((plot, (".png",)), (html, (".html", ".htm"))):
        if path is None:
            continue
        if path.is_dir():
            raise UsageError(
                "this is a folder, a file is needed",
                where=str(path),
                mend=f"For example {path / f'lengths{endings[0]}'}",
            )
        if path.suffix.lower() not in endings:
            raise UsageError(f"this is written as {endings[0]}, so its name must end so", where=str(path))
        parent = next(p for p in path.absolute().parents if p.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise UsageError(f"nothing can be written in {parent}", where=str(path), mend="Choose another place.")


def write_files(measured: Measured, summary: dict[str, Any], *, plot: Path | None, html: Path | None) -> list[Path]:
    """Write the PNG and the HTML page where asked for; each appears whole or not at all."""
    from datakit.stats.plot import draw_lengths

    if plot:
        with atomic_file(plot) as handle:
            draw_lengths(measured.lengths.rows(), summary, handle)
    if html:
        picture = io.BytesIO()
        draw_lengths(measured.lengths.rows(), summary, picture)
        with atomic_file(html) as handle:
            handle.write(_page(summary, picture.getvalue()).encode())
    return [path for path in (plot, html) if path]


def headline(summary: dict[str, Any]) -> str:
    """What was measured, in one line."""
    left_out = sum(summary["rejected"].values())
    if summary["template"]:
        template = f" · template {summary['template']}"
    else:
        template = "" if summary["stage"] == "pt" else " · the tokenizer's own template"
    trained = "" if summary["stage"] == "pt" else f", {summary['trained_tokens']:,} of them trained"
    return f"{summary['rows']:,} rows, {summary['tokens']:,} tokens{trained} · stage {summary['stage']}{template}" + (
        f" · {left_out:,} rows rejected" if left_out else ""
    )


def length_table(summary: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Heads and the one row of the percentiles' table."""
    heads = ("mean", *(f"{name}%" if name != "100" else "longest" for name in PERCENTILES))
    return heads, [(f"{summary['mean']:,.1f}", *(f"{summary['percentiles'][name]:,}" for name in PERCENTILES))]


def candidate_table(summary: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Heads and rows of the candidates' table; the suggested one is marked with a star."""
    rows: list[tuple[str, ...]] = []
    for c in summary["candidates"]:
        name = f"{c['cutoff_len']:,}" + (" *" if c["cutoff_len"] == summary["suggested_cutoff_len"] else "  ")
        share = percent(c["tokens_lost"] / summary["tokens"]) if summary["tokens"] else "0%"
        if summary["stage"] == "pt":
            rows.append((name, f"{c['blocks']:,}", f"{c['tokens_lost']:,}", share, f"{c['steps_per_epoch']:,}"))
            continue
        shares = (percent(c["padding_waste"]), percent(c["packing_efficiency"]))
        rows.append(
            (
                name,
                f"{c['rows_truncated']:,}",
                f"{c['tokens_lost']:,}",
                f"{c['trained_tokens_lost']:,}",
                *shares,
                f"{c['steps_per_epoch']:,}",
            )
        )
    return (BLOCK_HEADS if summary["stage"] == "pt" else CANDIDATE_HEADS), rows


def legend(summary: dict[str, Any]) -> str:
    """What the candidates' columns mean."""
    if summary["stage"] == "pt":
        return f"Texts are joined and cut into blocks; dropped: what fills no block at the very end; steps: at {BATCH_SIZE} blocks each."
    lost = sum(c["rows_lost"] for c in summary["candidates"])
    return (
        f"padding: share of padded places in batches of {BATCH_SIZE} rows in file order; packed: share of filled places when "
        f"packed into blocks; steps: one epoch at batch size {BATCH_SIZE}."
        + (" Rows cut to where no answer is left are not trained at all." if lost else "")
    )


def _print_tables(summary: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(headline(summary), markup=False)
    unit = (
        "text" if summary["stage"] == "pt" else "prompt + longer answer" if summary["stage"] in ("rm", "dpo") else "row"
    )
    tables = ((f"Tokens a {unit}", length_table(summary)), ("What a cutoff_len does", candidate_table(summary)))
    for title, (heads, rows) in tables:
        table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
        for head in heads:
            table.add_column(head, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(*row, style="bold green" if row[0].endswith("*") else None)
        console.print(table)
    console.print(legend(summary), style="dim", markup=False)
    console.print(f"\nSuggested cutoff_len: {summary['suggested_cutoff_len']}", style="bold", markup=False)
    console.print(f"  {_sentence(summary['reason'])}", markup=False)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; color: #1d2433; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #d8dde6; }
th { border-bottom: 2px solid #8a94a6; font-weight: 600; }
tr.chosen td { background: #e6f4ea; font-weight: 600; }
.answer { background: #eef3fb; border-left: 4px solid #3267b8; padding: .6rem 1rem; margin: 1.2rem 0; }
img { max-width: 100%; } .note { color: #5b6577; font-size: 13px; }
"""


def _page(summary: dict[str, Any], picture: bytes) -> str:
    """One HTML page that needs nothing beside it."""
    text = html_lib.escape
    rejected = "".join(
        f"<tr><td>{count:,}</td><td style='text-align:left'>{text(reason)}</td></tr>"
        for reason, count in summary["rejected"].items()
    )
    parts = [
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Token lengths</title><style>{_STYLE}</style></head><body>",
        f"<h1>Token lengths</h1><p>{text(headline(summary))} · tokenizer {text(summary['tokenizer'])}</p>",
        f"<p class='answer'><b>Suggested cutoff_len: {summary['suggested_cutoff_len']}</b><br>{text(_sentence(summary['reason']))}</p>",
        f"<img alt='Histogram of token lengths' src='data:image/png;base64,{base64.b64encode(picture).decode()}'>",
        _html_table(*length_table(summary)),
        _html_table(*candidate_table(summary)),
        f"<p class='note'>{text(legend(summary))}</p>",
        f"<h2>Rejected rows</h2><table><tr><th>rows</th><th>reason</th></tr>{rejected}</table>" if rejected else "",
        "</body></html>\n",
    ]
    return "".join(parts)


def _html_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html_lib.escape(h)}</th>" for h in heads)
    body = "".join(
        f"<tr{' class=chosen' if row[0].endswith('*') else ''}>"
        + "".join(f"<td>{html_lib.escape(cell)}</td>" for cell in row)
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"
