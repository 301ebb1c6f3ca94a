"""What people see of a run while it goes: done, failed by class, speed, tokens, cost, and how many calls are out and why."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datakit.augment.run import Run

log = logging.getLogger("tunekit")

REDRAW_S = 0.25
LINE_EVERY_S = 15.0  # where stderr is no terminal
BATCH_LINE_EVERY_S = 300.0


class Board:
    """A live block of lines on a terminal, and elsewhere one line now and then."""

    def __init__(self, run: Run, *, quiet: bool) -> None:
        self._run = run
        self._quiet = quiet or not log.isEnabledFor(logging.INFO)
        self._live: Any = None
        self._started = self._drawn = time.monotonic()
        self.left_at_once = False  # a second interrupt: what is on the way is given up

    def __enter__(self) -> Board:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), transient=True, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def tick(self) -> None:
        """Show how things stand, where it is time to."""
        now = time.monotonic()
        line_every = BATCH_LINE_EVERY_S if self._run.options.batch else LINE_EVERY_S
        if self._quiet or now - self._drawn < (REDRAW_S if self._live is not None else line_every):
            return
        self._drawn = now
        lines = self.lines(now)
        if self._live is not None:
            from rich.text import Text

            self._live.update(Text("\n".join(lines)), refresh=True)
        else:
            log.info("%s", "  ".join(lines))

    def lines(self, now: float) -> list[str]:
        """The state of the run in a few lines."""
        run, seconds = self._run, max(now - self._started, 1e-9)
        conductor, budget = run.conductor, run.budget
        dispatch = conductor.dispatch
        done = run.spool.count
        first = f"{done:,} seeds done, {run.made:,} rows made, {run.made / seconds:,.1f} rows/s, {conductor.tally.from_store:,} answers from the store"
        if dispatch is None:
            return [first]
        figures = dispatch.figures
        failed = ", ".join(f"{count:,} {kind}" for kind, count in figures.failed.most_common()) or "none"
        second = f"{figures.answered:,} answered, {figures.rate_limits:,} refused for now, failed attempts: {failed}"
        cost = budget.cost
        money = f", cost {cost:,.2f}" if cost is not None else ""
        projected = self._projected(cost, done)
        third = f"{budget.tokens:,} tokens{money}{projected}"
        lanes = dispatch.lanes
        limit, out = sum(int(lane.limit) for lane in lanes), dispatch.concurrency
        why = max(lanes, key=lambda lane: lane.refused).why if lanes else ""
        return [first, second, third, f"{out:,} of {limit:,} calls out: {why}"]

    def _projected(self, cost: float | None, done: int) -> str:
        """What the whole run will cost, where its length is known."""
        total = self._run.num_seeds
        if cost is None or not done or not total or done > total:
            return ""
        return f" of about {cost * total / done:,.2f}"
