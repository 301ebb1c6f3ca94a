"""The results of ``benchmarks/gpu.py`` as tables for RESULTS.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from benchmarks.gpu_cells import RUNGS

BEGIN, END = "<!-- benchmarks/gpu.py -->", "<!-- end of benchmarks/gpu.py -->"
SHEET, REACHED = 989e12, 790e12  # FLOP/s of an H100 or H200 in dense bfloat16: by its maker, and as measured
AGREE = 1e-2  # of the first loss, relative: bfloat16


def checks_table(checks: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each check."""
    lines = ["| check | | found |", "|---|---|---|"]
    return lines + [f"| {c['name']} | {'passed' if c['passed'] else '**failed**'} | {c['told']} |" for c in checks]


def table(runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each run, the sides of one shape, method and length together. "Ours against it": the tokens a second of the
    top of our ladder by theirs. A run whose first loss differs from the others' is marked."""
    lines = [
        "| model | method | length | side | tokens/s | MFU of 989 | MFU of 790 | peak memory | rows at once | ours against it |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    order = {rung: number for number, rung in enumerate(RUNGS)}
    key = lambda run: (run["shape"], run["method"], run["length"])  # noqa: E731
    ordered = sorted(runs.values(), key=lambda run: (*key(run), order[run["rung"]]))
    for (shape, method, length), group in groupby(ordered, key=key):
        found = list(group)
        measured = [run for run in found if "skipped" not in run]
        top = next((run for run in measured if run["rung"] == "kept"), None)
        for number, run in enumerate(found):
            kind = f"{method}{', all in bf16' if run['pure'] else ''}"
            words = [shape, kind, str(length)] if number == 0 else ["", "", ""]
            words.append(RUNGS[run["rung"]].title)
            words += cells_of(run, top, measured)
            lines.append("| " + " | ".join(words) + " |")
    return lines


def cells_of(run: Mapping[str, Any], top: Mapping[str, Any] | None, measured: Sequence[Mapping[str, Any]]) -> list[str]:
    """The numbers of one run; why there are none, where it was skipped."""
    if "skipped" in run:
        return [f"not measured: {run['skipped']}", "", "", "", "", ""]
    flops, loss = run["flops_per_second"], run["losses"][0]
    usual = sorted(other["losses"][0] for other in measured)[len(measured) // 2]
    odd = "" if abs(loss / usual - 1) <= AGREE else f" (first loss {loss:.4f}, others {usual:.4f})"
    against = ""
    if top is not None and RUNGS[run["rung"]].library != "trainkit":
        against = f"**{top['tokens_per_second'] / run['tokens_per_second']:.2f}×**"
    return [
        f"{run['tokens_per_second']:,.0f}{odd}", f"{flops / SHEET:.1%}", f"{flops / REACHED:.1%}",
        f"{run['peak'] / 2**30:.1f} GiB", f"{run['rows']}", against,
    ]  # fmt: skip
