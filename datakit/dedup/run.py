"""The sources through the judge to the writer: in one reading, or, for near duplicates, in two."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from datakit.dedup.drops import Drop, Drops, merged
from datakit.dedup.fields import Fields, fields_of
from datakit.dedup.judge import Judge
from datakit.dedup.look import Batch, Wanted, look_at
from datakit.dedup.plan import Plan
from datakit.dedup.report import tell_plan
from datakit.dedup.write import Writer
from datakit.layout import ColumnWatch, peek_items
from datakit.summary import with_progress
from datakit.twice import Source, changed
from registry.blocks import Item


def run_once(source: Source, plan: Plan, judge: Judge, writer: Writer, workers: int) -> Fields:
    """Judge and write each batch as it comes; the fields that were compared."""
    looking = _begin(source, plan, judge, workers)
    first = 0
    for batch in looking.batches("comparing"):
        writer.write(batch, {drop.at: drop for drop in judge.judge(batch)}, first)
        first += len(batch)
    return looking.wanted.fields


def run_twice(source: Source, plan: Plan, judge: Judge, writer: Writer, workers: int) -> Fields:
    """Judge all rows, decide which near ones stay, and read them once more to write them."""
    looking = _begin(source, plan, judge, workers)
    at_once, near = Drops(), Drops()
    count = 0
    for batch in looking.batches("reading"):
        at_once.extend(judge.judge(batch))
        count += len(batch)
    near.extend(with_progress(judge.near_drops(), "dropping near"))
    drops = merged((judge.settled(drop, near) for drop in at_once), near)
    upcoming = next(drops, None)
    first = 0
    for batch in _Looking(source, Wanted(), source.items(), workers=1).batches("writing"):
        end = first + len(batch)
        found: dict[int, Drop] = {}
        while upcoming is not None and upcoming.at < end:
            found[upcoming.at] = upcoming
            upcoming = next(drops, None)
        writer.write(batch, found, first)
        first = end
    source.check_unchanged()
    if first != count:
        raise changed(", ".join(source.names))
    return looking.wanted.fields


@dataclass(frozen=True)
class _Looking:
    """One reading of all rows."""

    source: Source
    wanted: Wanted
    items: Iterator[Item]
    workers: int

    def batches(self, doing: str) -> Iterator[Batch]:
        """Raises ``UsageError`` at the end where no row had a column that was asked for."""
        watch = ColumnWatch(set(self.wanted.fields.columns), {})
        with closing(with_progress(look_at(self.items, self.wanted, self.workers), doing, size=len)) as batches:
            for batch in batches:
                watch.wanted &= batch.watch.wanted
                watch.met.update(batch.watch.met)
                yield batch
        watch.check(", ".join(self.source.names), "--on")


def _begin(source: Source, plan: Plan, judge: Judge, workers: int) -> _Looking:
    """The first reading: what is compared, as the first rows tell."""
    head, items = peek_items(source.items())
    fields = fields_of(plan.names, head)
    tell_plan(plan, fields)
    wanted = Wanted(
        fields,
        key=judge.table is not None,
        normalise=plan.normalise,
        shingle=plan.shingle if plan.near is not None else None,
        bands=plan.bands,
        ngram=plan.ngram if plan.decontaminate else None,
    )
    return _Looking(source, wanted, items, workers)
