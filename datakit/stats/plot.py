"""The picture of the lengths: a histogram, the share of rows up to each length, and the suggestion as a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from datakit.stats.suggest import percent

if TYPE_CHECKING:
    from datakit.stats.suggest import Ordered

MOST_POINTS = 2000  # of the cumulative curve; more cost seconds and are not seen


@dataclass(frozen=True, slots=True)
class Colours:
    """The inks of one picture."""

    paper: str
    ink: str
    soft: str
    bars: str
    line: str
    mark: str


LIGHT = Colours("#ffffff", "#1c2330", "#5a6478", "#9bb8e0", "#2b4a7f", "#c0392b")
DARK = Colours("#14181f", "#e4e8ef", "#9aa5b8", "#3f6196", "#a9c6f5", "#ff8b7a")


def draw_lengths(rows: Ordered, summary: dict[str, Any], handle: IO[bytes], colours: Colours = LIGHT) -> None:
    """Draw ``rows`` (lengths in tokens, sorted) as a PNG; far longer ones are left outside and counted in a note."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    found, what = summary["histogram"], "texts" if summary["unit"] == "text" else "rows"
    width, counts = found["width"], found["counts"]
    right = width * len(counts)
    figure = Figure(figsize=(9, 5), dpi=120, layout="constrained", facecolor=colours.paper)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=colours.paper)
    starts = [width * i for i in range(len(counts))]
    axes.bar(starts, counts, width=width, align="edge", color=colours.bars, edgecolor=colours.paper, linewidth=0.5)
    axes.set_xlim(0, right)
    axes.set_xlabel(f"tokens a {summary['unit']}, as training sees it", color=colours.ink)
    axes.set_ylabel(f"drawn {what}" if summary["estimate"] else what, color=colours.ink)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    shares = axes.twinx()
    shares.step(*_cumulative(rows, right), where="post", color=colours.line, linewidth=1.8)
    shares.set_ylim(0, 1.02)
    shares.set_ylabel(f"share of {what} up to this length", color=colours.line)
    shares.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    for side in (axes, shares):
        side.tick_params(colors=colours.soft)
        side.spines["top"].set_visible(False)
        side.spines[["left", "right", "bottom"]].set_color(colours.soft)
    _mark(shares, summary, right, colours)
    figure.suptitle(_title(summary), fontsize=12, color=colours.ink)
    if found["beyond"]:
        share = percent(found["beyond"] / len(rows))
        note = f"{found['beyond']:,} of {right:,} tokens or more not drawn (longest {found['longest']:,}; {share})"
        axes.set_title(note, fontsize=9, color=colours.soft, loc="right")
    figure.savefig(handle, format="png", facecolor=colours.paper)


def _mark(axes: Any, summary: dict[str, Any], right: int, colours: Colours) -> None:
    """The suggestion as a dashed line with its name."""
    suggested = summary["suggested_cutoff_len"]
    if suggested > right:
        return
    axes.axvline(suggested, color=colours.mark, linestyle="--", linewidth=1.6)
    at_right = suggested > 0.6 * right
    name = "block" if summary["unit"] == "text" else "cutoff_len"
    axes.annotate(
        f"suggested {name}: {suggested:,}", (suggested, 0.5), color=colours.mark,
        xytext=(-8 if at_right else 8, 0), textcoords="offset points", ha="right" if at_right else "left",
        bbox={"facecolor": colours.paper, "edgecolor": "none", "alpha": 0.85, "pad": 2},
    )  # fmt: skip


def _cumulative(ordered: Ordered, right: int) -> tuple[list[int], list[float]]:
    """Lengths and the share of rows up to each, thinned out evenly, from nothing to all."""
    ranks = range(0, len(ordered), -(-len(ordered) // MOST_POINTS))
    longest = int(ordered[-1])
    lengths = [0, *ordered[:: ranks.step].tolist(), longest, max(right, longest)]
    return lengths, [0.0, *((rank + 1) / len(ordered) for rank in ranks), 1.0, 1.0]


def _title(summary: dict[str, Any]) -> str:
    about = "about " if summary["estimate"] else ""
    if summary["stage"] == "pt":
        return f"{about}{summary['rows']:,} texts, {summary['tokens']:,} tokens"
    template = f"template {summary['template']}" if summary["template"] else "the tokenizer's own template"
    return f"{about}{summary['rows']:,} rows, {summary['tokens']:,} tokens · stage {summary['stage']}, {template}"
