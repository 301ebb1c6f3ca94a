"""Rows without their duplicates: exact and near ones, within the sources and against other files, and evaluation rows."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from datakit.dedup.bands import bands_for
from datakit.dedup.judge import Judge
from datakit.dedup.near import NearNotes
from datakit.dedup.others import check_others, read_evaluation, read_others
from datakit.dedup.overlap import ANY, EvaluationSet
from datakit.dedup.plan import DEFAULT_NGRAM, DEFAULT_SHINGLE, Plan, make_plan
from datakit.dedup.report import details_of, tell_results
from datakit.dedup.run import run_once, run_twice
from datakit.dedup.spool import open_spool
from datakit.dedup.table import KeyTable
from datakit.dedup.write import Writer
from datakit.outcome import Outcome
from datakit.targets import check_target, same_file
from datakit.together import Together
from datakit.twice import Source, readable_twice
from datakit.workers import num_workers
from datakit.write import STDOUT, Sink, open_sink
from registry.errors import UsageError
from registry.remote import is_remote
from registry.sources import expand_sources

log = logging.getLogger("tunekit")


def dedup_rows(
    src: Iterable[str | Path],
    out: str | Path,
    *,
    on: str | None = None,
    exact: bool = True,
    raw: bool = False,
    near: float | None = None,
    shingle: int = DEFAULT_SHINGLE,
    against: Iterable[str | Path] = (),
    decontaminate: Iterable[str | Path] = (),
    ngram: int = DEFAULT_NGRAM,
    overlap: str | float = ANY,
    drops: str | Path | None = None,
    rejects: str | Path | None = None,
    strict: bool = False,
    workers: int = 1,
) -> Outcome:
    """Write the rows of ``src`` to ``out``, unchanged and in order, of each set of duplicates only the first.

    Rows are equal by the whole row, or by the fields ``on`` (``"instruction,output"``), texts normalised unless
    ``raw``. With ``near`` (a Jaccard similarity above 0 and up to 1, of n-grams of ``shingle`` tokens) a row is also
    dropped for an earlier one that stays and is at least that similar. Rows of the files ``against`` come first, and
    are not written. Rows that share an n-gram of ``ngram`` tokens (or the share ``overlap`` of those of one row) with
    the files ``decontaminate`` are dropped. Each dropped row goes to ``drops``, else among the ``rejects``, with the
    row that stays in its place; they count as ``filtered``. The exit code is 1 where no row is left, or any was
    rejected under ``strict``.
    ``workers`` processes look at rows (0: one a core, where it is worth it); a script that asks for more than one needs
    the guard that ``multiprocessing`` does. Raises ``UsageError`` for what is wrong as a whole, and for fields that no
    row has.
    """
    files, others, sets = (expand_sources(sources) for sources in (src, against, decontaminate))
    plan = make_plan(
        on=on, exact=exact, raw=raw, near=near, shingle=shingle, ngram=ngram, overlap=overlap,
        with_others=bool(others), with_evaluation=bool(sets),
    )  # fmt: skip
    check_others(files, others, sets)
    options = {
        "on": on, "exact": exact, "raw": raw, "near": near, "shingle": shingle, "against": others,
        "decontaminate": sets, "ngram": ngram, "overlap": str(overlap), "strict": strict,
    }  # fmt: skip
    all_files = [*files, *others, *sets]
    with ExitStack() as stack:
        named = stack.enter_context(Together())
        sink = stack.enter_context(open_sink(out, rejects, all_files, together=named))
        aside = _aside(drops, sink, all_files)
        judge, source = _made(plan, files, out, stack)
        told_sets = read_evaluation(sets, plan, judge)
        told_others = read_others(others, plan, judge, num_workers(workers, others))
        writer = Writer(sink, named, aside, judge, ", ".join(plan.names))
        run = run_once if near is None else run_twice
        fields = run(source, plan, judge, writer, num_workers(workers, files))
        tell_results(judge, plan)
        own = () if drops is None else (str(drops),)
        for file in own:
            if file in named:
                log.info("dropped rows: %s", file)
            else:
                named.remove(file)
        details = details_of(plan, fields, judge, told_others, told_sets)
        outcome = sink.close_books("dedup", options, files, details, aside=own)
    return replace(outcome, exit_code=1 if not outcome.rows_out or (strict and outcome.num_rejected) else 0)


def _made(plan: Plan, files: Sequence[str], out: str | Path, stack: ExitStack) -> tuple[Judge, Source]:
    """The judge that has seen nothing yet, and the sources, readable as often as needed."""
    table = KeyTable() if plan.exact else None
    evaluation = EvaluationSet(plan.ngram, plan.least) if plan.decontaminate else None
    if plan.near is None:
        return Judge(table, None, evaluation), Source(files, {}, {})
    folder = None if str(out) == STDOUT or is_remote(str(out)) else Path(out).parent
    source = stack.enter_context(readable_twice(files, str(folder or tempfile.gettempdir())))
    spool = stack.enter_context(open_spool(folder))
    return Judge(table, NearNotes(plan.near, bands_for(plan.near), spool), evaluation), source


def _aside(drops: str | Path | None, sink: Sink, sources: Sequence[str]) -> str | None:
    """Where dropped rows go. Raises ``UsageError`` for a target that cannot be written, or is another one's."""
    if drops is None:
        return str(sink.rejects) if sink.rejects is not None else None
    check_target(drops, sources, endings=(".jsonl",))
    for what, other in (("the rows that stay", sink.out), ("the rejects", sink.rejects)):
        if other is not None and same_file(drops, other):
            raise UsageError(f"dropped rows and {what} cannot go to the same file", where=f"--drops {drops}")
    return str(drops)
