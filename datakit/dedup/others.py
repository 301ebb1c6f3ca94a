"""The files that rows are compared with and that are not written: those of ``--against``, and the evaluation set."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from datakit.dedup.fields import fields_of, fields_of_others
from datakit.dedup.judge import Judge
from datakit.dedup.look import Batch, Wanted, look_at
from datakit.dedup.plan import Plan
from datakit.dedup.report import tell_evaluation
from datakit.layout import peek_items
from datakit.summary import with_progress
from datakit.targets import same_file
from registry.blocks import Item, read_blocks
from registry.digest import sha256_of
from registry.errors import UsageError
from registry.remote import is_remote
from registry.sources import STDIN

log = logging.getLogger("tunekit")


def check_others(files: Sequence[str], others: Sequence[str], sets: Sequence[str]) -> None:
    """Raise ``UsageError`` where a source would be compared with itself, or stdin read twice."""
    if [*files, *others, *sets].count(STDIN) > 1:
        raise UsageError("stdin can be read once only", where=STDIN)
    for flag, named in (("--against", others), ("--decontaminate", sets)):
        twin = next((other for other in named for file in files if same_file(file, other)), None)
        if twin is not None:
            raise UsageError(
                "this file is one of the sources, and all of its rows would be dropped", where=f"{flag} {twin}"
            )


def read_evaluation(sets: Sequence[str], plan: Plan, judge: Judge) -> list[dict[str, Any]]:
    """Have the judge learn the evaluation set; what is told of each file."""
    if judge.evaluation is None:
        return []
    head, items = peek_items(read_blocks(sets))
    wanted = Wanted(fields_of_others(plan.names, head), ngram=plan.ngram)
    counts = _read(sets, items, wanted, judge.learn_evaluation, 1)
    judge.evaluation.close()
    tell_evaluation(judge.evaluation, plan)
    return _told(sets, counts)


def read_others(others: Sequence[str], plan: Plan, judge: Judge, workers: int) -> list[dict[str, Any]]:
    """Have the judge learn the files to compare against; what is told of each."""
    if not others:
        return []
    head, items = peek_items(read_blocks(others))
    shingle = plan.shingle if plan.near is not None else None
    wanted = Wanted(fields_of(plan.names, head), plan.exact, plan.normalise, shingle, plan.bands)
    counts = _read(others, items, wanted, judge.learn_others, workers)
    if plan.names and not judge.places.count:
        log.warning("no row of %s has any of %s: nothing is compared with it", ", ".join(others), ", ".join(plan.names))
    return _told(others, counts)


def _read(
    files: Sequence[str], items: Iterator[Item], wanted: Wanted, learn: Callable[[Batch], None], workers: int
) -> Counter[str]:
    """Learn all rows; the number of rows of each file. Rows that cannot be read are only counted, and told."""
    counts: Counter[str] = Counter()
    num_bad = 0
    with closing(with_progress(look_at(items, wanted, workers), f"reading {files[0]}", size=len)) as batches:
        for batch in batches:
            counts[batch.file] += len(batch)
            num_bad += len(batch.bad)
            learn(batch)
    if num_bad:
        log.warning("%s rows of %s cannot be read, and nothing is compared with them", f"{num_bad:,}", ", ".join(files))
    return counts


def _told(files: Sequence[str], counts: Counter[str]) -> list[dict[str, Any]]:
    found = []
    for file in files:
        told: dict[str, Any] = {"file": file, "rows": counts[file]}
        if file != STDIN and not is_remote(file):
            told |= {"bytes": Path(file).stat().st_size, "sha256": sha256_of(file)}
        found.append(told)
    return found
