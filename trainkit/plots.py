"""Curves of a run as PNG: loss, learning rate, gradient norm, rewards, accuracy, each with a smoothed line."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from registry.atomic import atomic_file

log = logging.getLogger("tunekit")

# Numbers of a log line that get a curve of their own; so do those of each set of an evaluation (eval_<set>_loss, …).
CURVES = ("loss", "learning_rate", "grad_norm", "token_accuracy", "rewards/accuracies", "rewards/margins", "kl")
OF_SETS = re.compile(r"eval_.*(loss|accuracy|accuracies|margins|perplexity)|perplexity")
TOGETHER = {"rewards": ("rewards/chosen", "rewards/rejected")}  # in one picture, by its name
LINES = (("#9db8d9", "#1f5fa8"), ("#e3b59b", "#b5511c"))  # as logged, and smoothed
SMOOTH_FROM = 10  # points

Points = Sequence[tuple[int, float]]


def plot_curves(folder: Path, history: Sequence[Mapping[str, Any]]) -> list[Path]:
    """``training_<number>.png`` for every curve that was logged, as LLaMA-Factory names them; the paths written.

    Nothing that goes wrong with a picture (a damaged font cache, a full disk) is worth a run: it is a warning.
    """
    names = dict.fromkeys([*CURVES, *sorted({k for line in history for k in line if OF_SETS.fullmatch(k)})])
    pictures = {name: {name: points_of(history, name)} for name in names}
    pictures |= {title: {name: points_of(history, name) for name in both} for title, both in TOGETHER.items()}
    written = []
    for title, curves in pictures.items():
        there = {name: points for name, points in curves.items() if points}
        path = folder / f"training_{re.sub(r'[^A-Za-z0-9_.-]', '_', title)}.png"
        if not there:
            continue
        try:
            _plot(path, title, there)
        except Exception as error:  # noqa: BLE001  # matplotlib's kinds of errors are many
            log.warning("%s could not be drawn (%s: %s)", path.name, type(error).__name__, error)
            continue
        written.append(path)
    return written


def points_of(history: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    """(step, value) of every line that has the number; of a step that was logged twice the later one."""
    return sorted({line["step"]: line[name] for line in history if line.get(name) is not None}.items())


def _plot(path: Path, title: str, curves: Mapping[str, Points]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for (name, points), (pale, full) in zip(curves.items(), LINES, strict=False):
        steps, values = zip(*points, strict=True)
        what = name if len(curves) > 1 else "as logged"
        if len(points) < SMOOTH_FROM or name == "learning_rate" or OF_SETS.fullmatch(name):  # no noise in them
            axes.plot(
                steps,
                values,
                color=full,
                linewidth=1.5,
                marker="o",
                markersize=3 if len(points) < 40 else 0,
                label=what,
            )
            continue
        low, high = seen(values)
        axes.plot(steps, values, color=pale, linewidth=1, label=what)
        of = f"{what}, smoothed" if len(curves) > 1 else "smoothed"
        axes.plot(steps, smoothed(values, low, high), color=full, linewidth=2, label=of)
        if len(curves) == 1 and low < high:  # single spikes would press everything else flat
            axes.set_ylim(low, high)
    if axes.get_lines()[1:]:
        axes.legend(frameon=False)
    axes.set(xlabel="optimizer step", ylabel=title, title=f"training {title}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.ticklabel_format(axis="y", scilimits=(-3, 5))
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_file(path) as handle:
        figure.savefig(handle, format="png", dpi=120)


def seen(values: Sequence[float]) -> tuple[float, float]:
    """The range of values that a picture shows: all of them, unless a few in a hundred lie more than three times as far
    out as all others."""
    ordered = sorted(values)
    cut = len(ordered) // 50
    low, high = ordered[cut], ordered[-1 - cut]
    room = 3 * (high - low)
    bottom = ordered[0] if ordered[0] >= low - room else low - (high - low) * 0.1
    top = ordered[-1] if ordered[-1] <= high + room else high + (high - low) * 0.5
    margin = 0.05 * (top - bottom)
    return bottom - margin, top + margin


def smoothed(values: Sequence[float], low: float = -math.inf, high: float = math.inf) -> list[float]:
    """The mean of the points around each one, a twentieth of all of them on either side, so that it lags behind nothing.
    A point outside ``low`` and ``high`` counts as the nearer of the two."""
    held = [min(max(value, low), high) for value in values]
    sums = [0.0, *accumulate(held)]
    reach, count = max(1, len(values) // 20), len(values)
    spans = ((max(0, n - reach), min(count, n + reach + 1)) for n in range(count))
    return [(sums[end] - sums[start]) / (end - start) for start, end in spans]
