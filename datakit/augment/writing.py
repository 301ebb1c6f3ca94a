"""From the spool to the files: rows in the order of their seeds, through the filters, with every row accounted for."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from datakit.augment.failures import FATAL, Kind
from datakit.augment.filters import FilterOptions, Filters, Judged, plan_filters
from datakit.augment.filters.others import read_others
from datakit.augment.options import DROPS_ENDING, AugmentOptions
from datakit.augment.plan import Plan
from datakit.augment.report import AugmentReport, Figures
from datakit.augment.rollout import Made, Seed
from datakit.augment.spool import Unit
from datakit.outcome import Outcome
from datakit.targets import REJECTS_ENDING, check_target, same_file, target_of
from datakit.together import Together
from datakit.values import encode_row
from datakit.write import STDOUT, Sink, open_sink, raw_text
from registry.errors import UsageError
from registry.manifest import build_manifest, manifest_path
from registry.rows import BadRow, Row
from registry.sources import expand_sources

if TYPE_CHECKING:
    from datakit.augment.run import Run

_NOT_ASKED = {str(kind) for kind in (Kind.STOPPED, *FATAL)}  # ends of a run that are no fault of the row


def write_rows(run: Run, out: str | Path, *, rejects: str | Path | None, html: Path | None) -> Outcome:
    """Write what a run made, and close its books. Raises ``UsageError`` for targets, ``OSError`` as the system gives it."""
    files = list(run.plan.files)
    against = expand_sources(run.options.against) if run.options.against else []
    if html is not None:
        check_target(html, files, endings=(".html", ".htm"))
    aside = None if str(out) == STDOUT else f"{out}{DROPS_ENDING}"
    with (
        Together() as together,
        open_sink(out, rejects, [*files, *against], together=together) as sink,
        plan_filters(run.plan.main, filter_options(run.options, run.plan), sink.scratch) as filters,
    ):
        report = AugmentReport()
        teach(filters, run)
        _tell_seeds(run, report)
        _keep_books(run, sink)
        drops = Drops(sink, together, aside)
        recipes: deque[str] = deque()
        for judged in filters.judge(_rows(run, recipes)):
            report.add(judged, recipes.popleft())
            if judged.verdict.kept:
                sink.accept(_row_of(judged), judged.data)
            else:
                drops.add(judged)
        details = {**report.as_json(figures_of(run)), **_beside(run)}
        if aside is not None and aside not in together:
            together.remove(aside)
        outcome = sink.close_books("augment", run.options.as_json(), files, details, (aside,) if aside else ())
        if html is not None:
            _write_page(html, run, sink, together, outcome)
    return outcome


def check_targets(
    options: AugmentOptions, plan: Plan, store: Path, out: str | Path, *, rejects: str | Path | None, html: Path | None
) -> None:
    """See that what a run is going to write can be written, before it pays for it. Raises ``UsageError``."""
    files = [*plan.files, *(expand_sources(options.against) if options.against else [])]
    if str(out) != STDOUT:
        target_of(out, files)
    if rejects is not None:
        check_target(rejects, files, endings=(".jsonl",))
    if html is not None:
        check_target(html, files, endings=(".html", ".htm"))
    _check_store(
        store, [out, f"{out}.manifest.json", f"{out}{DROPS_ENDING}", f"{out}{REJECTS_ENDING}", rejects, html, *files]
    )
    if options.against:
        next(iter(read_others(expand_sources(options.against))), None)  # a file of no known format is told now


def _check_store(store: Path, others: Iterable[str | Path | None]) -> None:
    """Raise ``UsageError`` where the store of answers is a file that the run writes or reads."""
    for other in others:
        if other is not None and same_file(str(store), str(other)):
            raise UsageError(
                "the store of answers and another file of this run cannot be the same",
                where=f"--store {store}",
                mend="Name another file for one of them.",
            )


def filter_options(options: AugmentOptions, plan: Plan) -> FilterOptions:
    """The options of the filters. Raises ``UsageError`` for values beyond their range.

    The language that rows are translated to is the one expected; rows without seeds may be in any.
    """
    language = plan.values.get("to") if plan.main.name == "translate" else None
    return FilterOptions(
        near=options.near,
        language=str(language) if language else "auto" if plan.main.seeds != "none" else None,
        min_chars=options.min_chars,
        max_chars=options.max_chars,
        min_score=options.min_score,
        allow=options.allow,
    )


def teach(filters: Filters, run: Run) -> None:
    """Let the filters know what made rows may not repeat. Raises ``UsageError`` for files that cannot be read."""
    filters.learn_against(expand_sources(run.options.against) if run.options.against else [])
    filters.learn_seeds(_seeds(run))


def _seeds(run: Run) -> Iterator[Seed]:
    for unit in run.spool.units():
        yield from (seed for seed in (unit.seed.pool or (unit.seed,)) if seed.record is not None)


def _rows(run: Run, recipes: deque[str]) -> Iterator[tuple[dict[str, Any], Made]]:
    """All rows in order; the recipe of each goes to ``recipes``, from which it is taken when the row was judged."""
    for unit in run.spool.units():
        for row in unit.rows:
            recipes.append(unit.recipe)
            yield row


def _tell_seeds(run: Run, report: AugmentReport) -> None:
    """What was asked for, and of which seeds."""
    for unit in run.spool.units():
        if unit.recipe:
            report.ask(unit.recipe, run.plan.n_of(unit.seed))
        if unit.seed.record is not None:
            report.seed(unit.seed.record)


def _keep_books(run: Run, sink: Sink) -> None:
    """Where each row that was read went, how many were added, and which nothing could be made of.

    A long text makes several units, which stand together: its first failure stands for the row. Draws from a pool, and
    recipes without seeds, are no rows that were read: where they fail, a row that was wanted is added and rejected.
    """
    ledger = sink.ledger
    ledger.started = run.budget.started  # asking took longer than writing does
    for file, count in run.rows_read.items():
        ledger.read(file, count)
    of_rows = run.plan.main.seeds not in ("pool", "none")
    gone: Counter[str] = Counter()  # rows that nothing was made of, by why
    rejected = 0
    for _, units in groupby(run.spool.units(), key=lambda unit: (unit.seed.file, unit.seed.number, unit.seed.draw)):
        together = list(units)
        made = sum(len(unit.rows) for unit in together)
        failed = next((unit for unit in together if unit.failed), None)
        was_read = of_rows or (failed is not None and not failed.kind)  # a row of a pool may be unreadable
        if failed is not None and failed.kind in _NOT_ASKED:
            gone["not asked"] += was_read
        elif failed is not None:
            _reject(sink, failed)
            rejected += was_read
            ledger.added += not was_read
        if run.plan.makes_new or failed is not None:
            ledger.added += made
        elif made:
            ledger.added += made - 1  # beyond the one that took the row's place
        else:
            gone["nothing was made"] += 1
    ledger.filtered.update({why: count for why, count in gone.items() if count})
    if run.plan.makes_new and run.rows_read:
        ledger.filtered["seeds"] = sum(run.rows_read.values()) - rejected - gone.total()
    sink.changes.update(run.spool.changes)


def _reject(sink: Sink, unit: Unit) -> None:
    more = {"kind": unit.kind, "code": unit.code} if unit.kind else {}
    if unit.rows:
        more["rows_made"] = str(len(unit.rows))
    reason = f"{unit.kind}: {unit.reason}" if unit.kind else unit.reason
    row = BadRow(unit.seed.file, unit.seed.number, reason, unit.raw)
    sink.reject(row, unit.field, reason, more)


def _row_of(judged: Judged) -> Row:
    seed = judged.made.seeds[0] if judged.made.seeds else None
    return Row(seed.file if seed else "", seed.number if seed else 0, judged.data)


class Drops:
    """Rows that a filter dropped, written aside with the reason and counted by it."""

    def __init__(self, sink: Sink, files: Together, aside: str | None) -> None:
        self._sink, self._files, self._aside = sink, files, aside

    def add(self, judged: Judged) -> None:
        """Put one row aside."""
        self._sink.ledger.filtered[judged.verdict.reason] += 1
        if self._aside is None:
            return
        row = _row_of(judged)
        told = {
            "file": row.file,
            "row": row.number,
            "reason": judged.verdict.reason,
            "detail": judged.verdict.detail,
            "raw": raw_text(judged.data),
        }
        self._files.open(self._aside).write(encode_row(told, Counter()) + b"\n")


def figures_of(run: Run) -> Figures:
    """What the engine did, in the report's terms."""
    dispatch, tally = run.conductor.dispatch, run.conductor.tally
    figures = dispatch.figures if dispatch is not None else None
    return Figures(
        calls=tally.calls,
        answered=figures.answered if figures else 0,
        from_store=tally.from_store,
        failed=dict(tally.failed),
        requests=(figures.sent + figures.rate_limits) if figures else 0,
        prompt_tokens=run.budget.prompt_tokens,
        completion_tokens=run.budget.completion_tokens,
        cost=run.budget.cost,
        seconds=run.seconds,
        concurrency=figures.most_at_once if figures else 0,
    )


def _beside(run: Run) -> dict[str, Any]:
    """What else ``--json`` tells: how answers were read, attempts that failed, where answers lie, how to go on."""
    dispatch, tally = run.conductor.dispatch, run.conductor.tally
    figures = dispatch.figures if dispatch is not None else None
    return {
        "answers": dict(tally.notes),
        "attempts_failed": dict(figures.failed) if figures else {},
        "rate_limits": figures.rate_limits if figures else 0,
        "seeds_failed": dict(run.failed),
        "store": str(run.store.path),
        "recorded": run.store.about().get("note") if tally.from_store else None,
        "stopped": run.going_on or None,
    }


def _write_page(html: Path, run: Run, sink: Sink, together: Together, outcome: Outcome) -> None:
    from datakit.augment.report.page import augment_page

    together.open(str(html)).write(augment_page(outcome.as_json()).encode("utf-8", "backslashreplace"))
    together.settle(str(html))
    manifest = build_manifest("augment", run.options.as_json(), list(run.plan.files), sink.ledger, digests=sink.digests)
    manifest["outputs"] = [together.describe(str(html))]
    spelled = orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    together.open(str(manifest_path(html))).write(spelled)
