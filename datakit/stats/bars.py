"""The histogram of lengths as bars of characters, with the suggestion marked."""

from __future__ import annotations

from typing import Any

MOST_LINES = 20
EIGHTHS = " ▏▎▍▌▋▊▉"


def draw_bars(histogram: dict[str, Any], suggested: int, width: int, *, ascii_only: bool = False) -> list[str]:
    """Lines of at most ``width`` characters: the bin in tokens, how many rows it has, and a bar."""
    bins = _merged(histogram["counts"], histogram["width"])
    if histogram["beyond"]:
        bins.append((bins[-1][1], histogram["longest"] + 1, histogram["beyond"]))
    dash, mark = ("-", "<-") if ascii_only else ("–", "◂")
    names = [f"{start:,}{dash}{end - 1:,}" if end - start > 1 else f"{start:,}" for start, end, _ in bins]
    counts = [f"{count:,}" for _, _, count in bins]
    wide, tall = max(map(len, names)), max(map(len, counts))
    note = f" {mark} {suggested:,}"
    room = max(width - wide - tall - 4 - len(note), 8)
    most = max(max(count for _, _, count in bins), 1)
    lines = []
    for name, told, (start, end, count) in zip(names, counts, bins, strict=True):
        marked = note if start < suggested <= end else ""
        lines.append(f"{name:>{wide}}  {told:>{tall}}  {_bar(count / most * room, ascii_only)}{marked}")
    return lines


def _merged(counts: list[int], width: int) -> list[tuple[int, int, int]]:
    """(first, past the last, rows) of so many bins side by side that few lines are left."""
    first = next((i for i, count in enumerate(counts) if count), 0)  # nothing is told of what lies below
    times = 1
    while len(counts) - first // times * times > times * MOST_LINES:
        times *= 2
    return [
        (i * width, (i + times) * width, sum(counts[i : i + times]))
        for i in range(first // times * times, len(counts), times)
    ]


def _bar(length: float, ascii_only: bool) -> str:
    """A bar so many characters long; whatever is more than nothing is seen."""
    if ascii_only:
        return "#" * round(length) or ("." if length else "")
    whole, rest = divmod(round(length * 8), 8)
    return "█" * whole + (EIGHTHS[rest] if rest else "") or ("▏" if length else "")
