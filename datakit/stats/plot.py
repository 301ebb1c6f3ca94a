"""The picture of the lengths: a histogram, the share of rows up to each length, and the suggestion as a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any

from datakit.stats.suggest import percent

BARS, LINE, MARK = "#9bb8e0", "#2b4a7f", "#c0392b"
MOST_BINS = 60
MOST_POINTS = 2000  # of the cumulative curve; more cost seconds and are not seen
UNITS = {"pt": "tokens a text", "dpo": "tokens of prompt + longer answer", "rm": "tokens of prompt + longer answer"}


def draw_lengths(rows: Sequence[int], summary: dict[str, Any], handle: IO[bytes]) -> None:
    """Draw ``rows`` (lengths in tokens) as a PNG; a few very long ones are left outside and counted in a note."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    suggested = summary["suggested_cutoff_len"]
    is_text = summary["stage"] == "pt"
    ordered = sorted(rows)
    right = _right_end(ordered, summary)
    width = max(-(-right // MOST_BINS), 1)
    edges = list(range(0, right + width, width))
    figure = Figure(figsize=(9, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.hist([min(length, edges[-1] + 1) for length in rows], bins=edges, color=BARS, edgecolor="white", linewidth=0.5)
    axes.set_xlim(0, edges[-1])
    axes.set_xlabel(UNITS.get(summary["stage"], "tokens a row, as training sees it"))
    axes.set_ylabel("texts" if is_text else "rows")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.spines[["top", "right"]].set_visible(False)
    shares = axes.twinx()
    shares.step(*_cumulative(ordered, edges[-1]), where="post", color=LINE, linewidth=1.8)
    shares.set_ylim(0, 1.02)
    shares.set_ylabel(f"share of {'texts' if is_text else 'rows'} up to this length", color=LINE)
    shares.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.0%}"))
    shares.spines[["top"]].set_visible(False)
    if suggested <= edges[-1]:
        shares.axvline(suggested, color=MARK, linestyle="--", linewidth=1.6)
        at_right = suggested > 0.6 * edges[-1]
        shares.annotate(
            f"suggested {'block' if is_text else 'cutoff_len'}: {suggested:,}", (suggested, 0.5), color=MARK,
            xytext=(-8 if at_right else 8, 0), textcoords="offset points", ha="right" if at_right else "left",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2},
        )  # fmt: skip
    figure.suptitle(_title(summary), fontsize=12)
    outside = sum(length > edges[-1] for length in rows)
    if outside:
        note = (
            f"{outside:,} longer than {edges[-1]:,} not drawn (longest {ordered[-1]:,}; {percent(outside / len(rows))})"
        )
        axes.set_title(note, fontsize=9, color="#5b6577", loc="right")
    figure.savefig(handle, format="png")


def _right_end(ordered: Sequence[int], summary: dict[str, Any]) -> int:
    """Where the axis ends: past the suggestion, and past all but the last thousandth of far longer rows."""
    bulk = summary["percentiles"]["99.9"]
    end = ordered[-1] if ordered[-1] <= 2 * bulk else bulk
    suggested = summary["suggested_cutoff_len"]
    return max(int(end * 1.05), int(suggested * 1.05) if summary["stage"] != "pt" or suggested < 2 * end else 0, 8)


def _cumulative(ordered: Sequence[int], right: int) -> tuple[list[int], list[float]]:
    """Lengths and the share of rows up to each, thinned out evenly, from nothing to all."""
    ranks = range(0, len(ordered), -(-len(ordered) // MOST_POINTS))
    lengths = [0, *(ordered[rank] for rank in ranks), ordered[-1], max(right, ordered[-1])]
    return lengths, [0.0, *((rank + 1) / len(ordered) for rank in ranks), 1.0, 1.0]


def _title(summary: dict[str, Any]) -> str:
    if summary["stage"] == "pt":
        return f"{summary['rows']:,} texts, {summary['tokens']:,} tokens"
    template = f"template {summary['template']}" if summary["template"] else "the tokenizer's own template"
    return f"{summary['rows']:,} rows, {summary['tokens']:,} tokens · stage {summary['stage']}, {template}"
