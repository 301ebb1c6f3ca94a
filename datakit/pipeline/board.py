"""What people see of a pipeline: a live table or plain lines while it runs, and tables on stdout when it is done."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from datakit.pipeline.state import Result

STYLES = {
    "waiting": "dim",
    "running": "bold cyan",
    "done": "green",
    "skipped": "dim",
    "failed": "bold red",
    "would run": "cyan",
    "would skip": "dim",
}
PIPED_WIDTH = 110  # columns of a table that no terminal gives a width to
HEADS = ("step", "state", "rows in", "out", "rejected", "seconds", "note")


@dataclass(frozen=True)
class Line:
    """One step as the tables show it. ``why`` tells why it ran or was skipped."""

    name: str
    verb: str
    state: str = "waiting"
    why: str = ""
    note: str = ""
    result: Result = field(default_factory=Result)

    def as_json(self) -> dict[str, Any]:
        """The step's object in ``--json``."""
        counts = {
            "rows_in": self.result.rows_in,
            "rows_out": self.result.rows_out,
            "rejected": dict(self.result.rejected),
        }
        rest = {"seconds": round(self.result.seconds, 3), "outputs": list(self.result.outputs), "note": self.note}
        return {"name": self.name, "verb": self.verb, "state": self.state, "why": self.why, **counts, **rest}


class Board:
    """The lines of all steps as they stand, and where they are shown while the pipeline runs."""

    def __init__(self, lines: Sequence[Line], *, quiet: bool) -> None:
        self.lines = list(lines)
        self._live: Any = None
        self._quiet, self._started = quiet, 0.0
        self._stderr = sys.stderr

    @contextmanager
    def shown(self) -> Iterator[Board]:
        """Show the table on a terminal for the time of the block; it makes room for the final one."""
        if self._quiet or not self._stderr.isatty():
            yield self
            return
        from rich.console import Console
        from rich.live import Live

        console = Console(file=self._stderr)
        with Live(
            get_renderable=self._table, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
        ) as self._live:
            yield self
        self._live = None

    def _table(self) -> Any:
        now = time.monotonic()
        ticking = [
            replace(line, result=replace(line.result, seconds=now - self._started)) if line.state == "running" else line
            for line in self.lines
        ]
        return step_table(ticking, one_line_each=True)

    def start(self, number: int, why: str) -> None:
        """Step ``number`` (from 0) begins."""
        self._started = time.monotonic()
        self.lines[number] = replace(self.lines[number], state="running", why=why)
        # Training may take hours; all else is over before anybody wonders.
        if not self._quiet and self._live is None and self.lines[number].verb.startswith("trainkit"):
            self._print(f"{self.lines[number].name}: running ({why})")

    def note(self, number: int, text: str) -> None:
        """What step ``number`` says at the moment."""
        self.lines[number] = replace(self.lines[number], note=text)

    def finish(self, number: int, state: str, why: str, result: Result) -> None:
        """Step ``number`` is done, skipped or failed."""
        self.lines[number] = replace(self.lines[number], state=state, why=why, note=result.note, result=result)
        if not self._quiet and self._live is None:
            self._print(plain_line(self.lines[number]))

    def say(self, text: str) -> None:
        """A warning, above the table."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            self._print(text)

    def _print(self, text: str) -> None:
        print(text, file=self._stderr, flush=True)


def plain_line(line: Line) -> str:
    """One finished step in one line."""
    result = line.result
    counts = (
        ""
        if result.rows_in is None
        else f" · {result.rows_in:,} rows in, {result.rows_out or 0:,} out, {result.num_rejected:,} rejected"
    )
    why = f" ({line.why})" if line.state == "skipped" else ""
    seconds = f" · {result.seconds:.1f} s" if line.state != "skipped" else ""
    return f"{line.name}: {line.state}{why}{counts}{seconds}" + (f" · {line.note}" if line.note else "")


def step_table(lines: Sequence[Line], *, one_line_each: bool = False) -> Any:
    """All steps as a rich table; ``one_line_each`` cuts long notes, so that a live table keeps its height."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in HEADS:
        numbers = head in ("rows in", "out", "rejected", "seconds")
        table.add_column(
            head,
            justify="right" if numbers else "left",
            no_wrap=one_line_each or head != "note",
            overflow="fold" if head == "note" and not one_line_each else "ellipsis",
        )
    for line in lines:
        result = line.result
        rows = [_number(n) for n in (result.rows_in, result.rows_out, result.num_rejected)]
        seconds = f"{result.seconds:.1f}" if line.state in ("running", "done", "failed") else ""
        note = line.note or (line.why if line.state in ("would run", "would skip", "skipped") else "")
        state = Text(line.state, style=STYLES.get(line.state, ""))
        table.add_row(Text(line.name), state, *rows, seconds, Text(note, style="" if line.note else "dim"))
    return table


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def print_final(lines: Sequence[Line], shown: dict[str, str], look_at: Sequence[tuple[str, str, bool]]) -> None:
    """The tables on stdout: all steps, what steps had to say, and the files (path, what it is, is it there) to look at."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=PIPED_WIDTH)
    console.print(step_table(lines))
    reports = {title: text for title, text in shown.items() if "\n" in text.strip()}
    for title, text in reports.items():  # of several lines: under its title, not beside it
        console.print(Text(title, style="bold"))
        console.print(Text(text.strip("\n")), soft_wrap=True, end="\n\n")
    shown = {title: text for title, text in shown.items() if title not in reports}
    if shown:
        answers = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False, padding=(0, 2, 1, 0))
        answers.add_column(style="bold", no_wrap=True)
        answers.add_column(overflow="fold")
        for title, text in shown.items():
            answers.add_row(
                Text(title), Text(text.strip() or ("(only spaces and line breaks)" if text else "(nothing)"))
            )
        console.print(answers)
    if look_at:
        files = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        files.add_column("look at", overflow="fold")
        files.add_column("what it is", overflow="fold")
        for path, what, there in look_at:
            files.add_row(Text(path), Text(what if there else f"{what} (not there)", style="" if there else "yellow"))
        console.print(files)
