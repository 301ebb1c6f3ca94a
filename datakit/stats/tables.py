"""The report as tables and sentences, the same for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datakit.stats.suggest import percent

MOST_SOURCES = 30  # files or datasets told one by one; --json has all
PREFERENCES = ("rm", "dpo")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under heads; ``left`` names the columns (from 0) that are not numbers, ``mark`` the rows set off."""

    title: str
    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    left: frozenset[int] = frozenset()
    mark: frozenset[int] = frozenset()
    note: str = ""


def lines_of(table: Table, width: int) -> list[str]:
    """The table as lines of text: heads, a rule, and the rows; as loosely set as ``width`` characters allow."""
    columns = list(zip(table.heads, *table.rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    gap = "   " if sum(widths) + 3 * len(widths) <= width else "  "
    sides = [str.ljust if i in table.left else str.rjust for i in range(len(columns))]
    rows = [table.heads, tuple("─" * wide for wide in widths), *table.rows]
    return [
        gap.join(side(cell, wide) for side, cell, wide in zip(sides, row, widths, strict=True)).rstrip() for row in rows
    ]


def headline(summary: dict[str, Any]) -> str:
    """What was measured, in one line."""
    about = "about " if summary["estimate"] else ""
    what = ("text" if summary["unit"] == "text" else "row") + ("" if summary["rows"] == 1 else "s")
    trained = "" if summary["unit"] == "text" else f", {summary['trained_tokens']:,} of them trained"
    parts = [f"{about}{summary['rows']:,} {what}, {summary['tokens']:,} tokens{trained}", f"stage {summary['stage']}"]
    if summary["template"]:
        parts.append(f"template {summary['template']}")
    elif summary["stage"] != "pt":
        parts.append("the tokenizer's own template")
    if summary["judged"]:
        parts.append(", ".join(f"{count:,} {judged}" for judged, count in summary["judged"].items()))
    if left_out := sum(summary["rejected"].values()):
        parts.append(f"{left_out:,} {'drawn ' if about else ''}row{'s' if left_out > 1 else ''} rejected")
    return " · ".join(parts)


def estimate_note(summary: dict[str, Any]) -> str:
    """What an estimate rests on; empty where all rows were measured."""
    found = summary["estimate"]
    if not found:
        return ""
    bands = ", ".join(f"{name} {_band(found[key])}" for name, key in (("rows", "rows"), ("tokens", "tokens")))
    return (
        f"An estimate from {found['sampled_rows']:,} rows drawn at random (seed {found['seed']}) of {found['of_rows']:,}; "
        f"with {percent(found['confidence'])} confidence each: {bands}, and where a band is given."
    )


def length_table(summary: dict[str, Any]) -> Table:
    """The percentiles, of a sample with their bands."""
    names = summary["percentiles"]
    heads = ("mean", *(f"{name}%" if name != "100" else "longest" for name in names))
    rows = [(f"{summary['mean']:,.1f}", *(f"{length:,}" for length in names.values()))]
    if summary["estimate"]:
        rows.append(("", *(_band(band) for band in summary["estimate"]["percentiles"].values())))
    return Table(f"Tokens a {summary['unit']}", heads, rows)


def candidate_table(summary: dict[str, Any]) -> Table:
    """What each length of the ladder does; the suggested one is marked."""
    texts = summary["unit"] == "text"
    some_lost = any(c["rows_lost"] for c in summary["candidates"])
    heads = ["cutoff_len", "blocks", "tokens dropped", "share", "steps"]
    if not texts:
        lost_heads = ["not trained"] if some_lost else []
        heads = [
            "cutoff_len",
            "rows cut",
            *lost_heads,
            "tokens lost",
            "trained lost",
            "padding",
            "packed",
            *(["blocks"] if summary["packing"] else []),
            "steps",
        ]
    rows = []
    for c in summary["candidates"]:
        share = percent(c["tokens_lost"] / summary["tokens"]) if summary["tokens"] else "0%"
        if texts:
            cells = [f"{c['blocks']:,}", f"{c['tokens_lost']:,}", share]
        else:
            lost = [f"{c['rows_lost']:,}"] if some_lost else []
            cells = [_cut(summary, c), *lost, f"{c['tokens_lost']:,}", f"{c['trained_tokens_lost']:,}"]
            cells += [percent(c["padding_waste"]), percent(c["packing_efficiency"])]
            cells += [f"{c['blocks']:,}"] if summary["packing"] else []
        chosen = c["cutoff_len"] == summary["suggested_cutoff_len"]
        rows.append((f"{c['cutoff_len']:,}{' *' if chosen else '  '}", *cells, f"{c['steps_per_epoch']:,}"))
    marked = frozenset(number for number, row in enumerate(rows) if row[0].endswith("*"))
    return Table("What a cutoff_len does", tuple(heads), rows, mark=marked, note=_legend(summary, some_lost))


def _cut(summary: dict[str, Any], candidate: dict[str, Any]) -> str:
    count = f"{candidate['rows_truncated']:,}"
    if not summary["estimate"]:
        return count
    return f"{count} ({_band(summary['estimate']['rows_truncated'][str(candidate['cutoff_len'])])})"


def _legend(summary: dict[str, Any], some_lost: bool) -> str:
    size, times = summary["batch_size"], summary["gradient_accumulation"]
    step = f"{size} × {times}" if times > 1 else f"{size}"
    if summary["unit"] == "text":
        return f"Texts are joined and cut into blocks; dropped: what fills no block at the very end; steps: of {step} blocks."
    unit = "blocks" if summary["packing"] else "pairs" if summary["stage"] in PREFERENCES else "rows"
    lost = "not trained: rows cut to where no answer is left; " if some_lost else ""
    answers = " The prompt is counted with each of its two answers." if summary["stage"] in PREFERENCES else ""
    return (
        f"* suggested. {lost}padding: share of padded places to be expected in shuffled batches of {size}; packed: share "
        f"of filled places when packed into blocks; steps: one epoch at {step} {unit} a step.{answers}"
    )


def role_table(summary: dict[str, Any]) -> Table | None:
    """Context and trained tokens by who speaks; None for plain text."""
    if not summary["roles"]:
        return None
    rows = [
        (role, f"{c['tokens']:,}", percent(c["tokens"] / max(summary["tokens"], 1)), f"{c['trained']:,}")
        for role, c in summary["roles"].items()
        if c["tokens"]
    ]
    return Table("By role", ("role", "tokens", "share", "trained"), rows, left=frozenset({0}))


def side_table(summary: dict[str, Any]) -> Table | None:
    """How long prompts and answers are, each by itself; None where a row is no prompt with answers."""
    if not summary["sides"]:
        return None
    rows = [
        (side, f"{c['mean']:,.1f}", f"{c['p50']:,}", f"{c['p95']:,}", f"{c['max']:,}")
        for side, c in summary["sides"].items()
    ]
    return Table("Prompts and answers", ("", "mean", "50%", "95%", "longest"), rows, left=frozenset({0}))


def source_table(summary: dict[str, Any]) -> Table | None:
    """Files or datasets, the largest first where they are many; None where there is but one."""
    sources = summary["sources"]
    if len(sources) < 2:
        return None
    shown = sources if len(sources) <= MOST_SOURCES else sorted(sources, key=lambda s: -s["rows"])[:MOST_SOURCES]
    texts = summary["unit"] == "text"
    rows = []
    for s in shown:
        cells = (s["source"], f"{s['rows']:,}", f"{s['rejected']:,}", f"{s['tokens']:,}", f"{s['trained_tokens']:,}")
        lengths = (f"{s['p50']:,}", f"{s['p95']:,}", f"{s['max']:,}")
        rows.append((*cells, *lengths, *(() if texts else (f"{s['rows_truncated']:,}",))))
    heads = ("source", "rows", "rejected", "tokens", "trained", "50%", "95%", "longest")
    more = len(sources) - len(shown)
    notes = ["Of the drawn rows."] if summary["estimate"] else []
    notes += [f"The largest of {len(sources):,}; --json has all."] if more else []
    cut = () if texts else (f"cut at {summary['suggested_cutoff_len']:,}",)
    return Table("By source", (*heads, *cut), rows, left=frozenset({0}), note=" ".join(notes))


def suggestion(summary: dict[str, Any]) -> tuple[str, str]:
    """The suggestion, and its reason as a sentence."""
    band = (summary["estimate"] or {}).get("suggested_cutoff_len")
    span = f" ({_band(band)} with 95% confidence)" if band and band[0] != band[1] else ""
    reason = summary["reason"]
    return f"Suggested cutoff_len: {summary['suggested_cutoff_len']}{span}", reason[:1].upper() + reason[1:]


def _band(ends: list[int | None]) -> str:
    """``163–168``; ``≥ 713`` and ``≤ 9`` where one end is open."""
    low, high = ends
    if low is None or high is None:
        return f"≥ {low:,}" if low is not None else f"≤ {high:,}" if high is not None else "any"
    return f"{low:,}–{high:,}" if low != high else f"{low:,}"
