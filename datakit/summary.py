"""What a command tells people while rows pass and when it is done; results and JSON go to stdout, the rest to stderr."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import typer

from datakit.outcome import Outcome
from registry.command import print_json

log = logging.getLogger("tunekit")

T = TypeVar("T")
REDRAW_ROWS = 256  # the clock is only looked at this often
MOST_REASONS = 12
MOST_OUTPUTS = 4  # files listed by name
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def finish(outcome: Outcome, *, json: bool, quiet: bool) -> None:
    """Tell what came of a command, and leave with its exit code where that is not 0.

    With ``json`` exactly one object goes to stdout; else a few lines go to stderr, with ``quiet`` only what went wrong.
    """
    if json:
        print_json(outcome.as_json())
    elif outcome.num_rejected and quiet:
        log.warning("%s: %s of %s rows rejected", outcome.command, f"{outcome.num_rejected:,}", f"{outcome.rows_in:,}")
    elif not quiet:
        for line in summary_lines(outcome):
            log.info("%s", line)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


def summary_lines(outcome: Outcome) -> list[str]:
    """Rows in, out and rejected by reason, where the files are, and the seconds it took."""
    speed = f", {outcome.rows_in / outcome.seconds:,.0f} rows/s" if outcome.seconds > 0.05 else ""
    lines = [
        f"{outcome.command}: {outcome.rows_in:,} rows in, {outcome.rows_out:,} out, {outcome.num_rejected:,} rejected"
        f"{_beside(outcome)}  ({outcome.seconds:.1f} s{speed})"
    ]
    told = "faults" in outcome.details  # in a table of their own
    reasons = [] if told else sorted(outcome.rejected.items(), key=lambda item: -item[1])
    lines += [f"  {count:>8,}  {reason}" for reason, count in reasons[:MOST_REASONS]]
    if len(reasons) > MOST_REASONS:
        rest = sum(count for _, count in reasons[MOST_REASONS:])
        lines.append(f"  {rest:>8,}  for {len(reasons) - MOST_REASONS} other reasons")
    lines += _written(outcome.outputs)
    if outcome.rejects_file:
        lines.append(f"  rejects: {outcome.rejects_file}")
    return lines


def _written(outputs: Sequence[Path | str]) -> list[str]:
    if len(outputs) <= MOST_OUTPUTS:
        return [f"  written: {path}" for path in outputs]
    return [f"  written: {len(outputs):,} files, {outputs[0]} to {outputs[-1]}"]


def _beside(outcome: Outcome) -> str:
    """What else makes rows out differ from rows in."""
    filtered = "".join(
        f", {count:,} left out {f'by {why}' if why.startswith('--') else f'({why})'}"
        for why, count in outcome.filtered.items()
    )
    return filtered + (f", {outcome.rows_added:,} added" if outcome.rows_added else "")


def with_progress(rows: Iterable[T], doing: str, *, size: Callable[[T], int] | None = None) -> Generator[T, None, None]:
    """``rows`` as they are; where stderr is a terminal and the log is not quiet, a line counts them as they pass.

    ``size`` tells how many rows an item stands for, where items are batches.
    """
    if not sys.stderr.isatty() or not log.isEnabledFor(logging.INFO):
        yield from rows
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    text = TextColumn("{task.description} {task.completed:,.0f} rows  {task.fields[speed]:,.0f} rows/s")
    started = time.monotonic()
    with Progress(SpinnerColumn(), text, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=None, speed=0.0)
        count = drawn = 0
        for row in rows:
            count += size(row) if size else 1
            if count - drawn >= REDRAW_ROWS:
                bar.update(task, completed=count, speed=count / (time.monotonic() - started))
                drawn = count
            yield row


def say(text: str) -> None:
    """One result for people on stdout, in UTF-8 whatever the locale says."""
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace") + b"\n")
    sys.stdout.buffer.flush()


def visible(text: str) -> str:
    """``text`` with control characters (and halves of characters) spelled out, so that rows cannot drive a terminal."""
    return _HIDDEN.sub(lambda m: m.group().encode("unicode_escape").decode(), text)


def in_colour() -> bool:
    """Whether stdout is a terminal whose user wants colour."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ
