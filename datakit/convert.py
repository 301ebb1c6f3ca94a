"""Rows of any container and format into another, each one written, rejected with its reason, or left out as asked."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from datakit.columns import ColumnPlan, pass_columns, plan_columns
from datakit.layout import (
    AUTO,
    ColumnWatch,
    describe_format,
    lookup,
    peek,
    resolve_conversations,
    resolve_layout,
    used_columns,
)
from datakit.left_out import LeftOut
from datakit.outcome import Outcome
from datakit.recast import KEEP, PLACEHOLDER, Recasting, check_formats, keeping, reading_calls, recasting
from datakit.shuffle import Shuffle
from datakit.summary import with_progress
from datakit.typed import BatchShuffle, TypedPlan, pass_typed, plan_typed
from datakit.values import encode_row
from datakit.where import Where, parse_where
from datakit.where.condition import CONDITION
from datakit.where.values import Fault
from datakit.write import STDOUT, Sink, open_sink
from registry.columnar import is_columnar
from registry.datasets import Layout
from registry.errors import RowFault
from registry.formats import WRITERS
from registry.rows import BadRow, Row, read_rows
from registry.sources import expand_sources

log = logging.getLogger("tunekit")

DEFAULT_SEED = 42
LIMIT = "--limit"  # what rows are left out by, as the books name it
MOST_PLACEHOLDERS = 5  # names listed in the warning
_JUDGED_ROWS = 256  # rows that --where looks at together
_PLACEHOLDER_BYTES = re.compile(PLACEHOLDER.pattern.encode())
_MISSING = object()


def convert_rows(
    src: Iterable[str | Path],
    out: str | Path,
    *,
    from_format: str = AUTO,
    to_format: str = KEEP,
    shape: str = AUTO,
    mapping: Mapping[str, str] | None = None,
    fill: Mapping[str, str] | None = None,
    where: str | None = None,
    limit: int | None = None,
    shuffle: bool = False,
    seed: int = DEFAULT_SEED,
    shard_rows: int | None = None,
    rejects: str | Path | None = None,
    strict: bool = False,
) -> Outcome:
    """Write the rows of ``src`` to ``out`` in ``to_format``; rows that cannot be become rejects, with their reason.

    ``mapping`` renames columns for ``keep`` (new name → column) and tells the parts of a row for the formats
    (part → column). ``fill`` replaces ``{{name}}`` in every text. ``where`` takes the rows that match (see
    ``docs/formats.md``), ``limit`` the first so many of them, or with ``shuffle`` a uniform sample of what is written.
    ``shape`` is the format whose columns preference and kto rows take, ``shard_rows`` the rows of each file where
    ``out`` is to be many. The exit code is 1 where rows were rejected and none is left, or any was under ``strict``.
    Raises ``UsageError`` for what is wrong as a whole: sources, formats, conditions, columns that no row has.
    """
    mapping, fill = dict(mapping or {}), dict(fill or {})
    check_formats(from_format, to_format, shape)
    condition = parse_where(where) if where is not None else None
    files = expand_sources(src)
    head, rows = peek(read_rows(files), AUTO if to_format != KEEP else KEEP)
    layout = _layout(from_format, mapping, head) if to_format != KEEP else None
    change = recasting(layout, to_format, shape, mapping, fill) if layout else keeping(mapping, fill)
    if layout:
        parts = _spelled_parts(layout, head)  # none where only later rows have what is mapped
        log.info("reading as %s%s", describe_format(layout), f": {parts}" if parts else "")
    asked = {
        "from": from_format, "to": to_format, "shape": shape, "map": mapping, "fill": fill, "where": where,
        "limit": limit, "shuffle": shuffle, "seed": seed if shuffle else None,
        "shard_rows": shard_rows, "strict": strict,
    }  # fmt: skip
    with ExitStack() as stack:
        sink = stack.enter_context(open_sink(out, rejects, files, shard_rows))
        passage = Passage(sink, change, mapping, condition, LeftOut(layout, mapping, change.drops) if layout else None)
        path = _pass_all(passage, files, rows, _plan(files, layout, change, asked, sink), asked, stack)
        passage.check(", ".join(files))
        details = {"format": describe_format(layout) if layout else None, "path": path, **passage.details()}
        outcome = sink.close_books("convert", asked, files, details)
    hint = f" (--to preference --shape {to_format} keeps both answers)" if "rejected" in change.drops else ""
    _tell(outcome, to_format, hint if to_format in WRITERS else "", str(out) == STDOUT)
    failed = outcome.num_rejected and (strict or not outcome.rows_out)
    return replace(outcome, exit_code=1 if failed else 0)


def _layout(from_format: str, mapping: Mapping[str, str], head: Sequence[Row]) -> Layout | None:
    layout = resolve_conversations(from_format, mapping, head) or resolve_layout(from_format, mapping, head)
    return reading_calls(layout) if layout else None


def _plan(
    files: Sequence[str], layout: Layout | None, change: Recasting, asked: Mapping[str, Any], sink: Sink
) -> TypedPlan | ColumnPlan | str:
    """How whole batches can go; or why only single rows can."""
    if sink.takes_batches and change.shape is None:
        return plan_typed(files, asked["map"], asked["fill"])
    single = next((name for name in ("where", "shuffle", "fill") if asked[name]), None)
    if single or not sink.takes_lines or not change.is_plain:
        one_by_one = (
            "rows of another format are made one by one" if change.shape else "the target takes rows one by one"
        )
        return f"--{single} looks at each row" if single else one_by_one
    return plan_columns(files, layout, change.shape or KEEP, asked["map"])


def _pass_all(
    passage: Passage,
    files: Sequence[str],
    rows: Iterator[Row | BadRow],
    plan: TypedPlan | ColumnPlan | str,
    asked: Mapping[str, Any],
    stack: ExitStack,
) -> str:
    """All rows by ``plan``; which path they took, as the manifest names it."""
    sink, limit = passage.sink, asked["limit"]
    mixed = (asked["seed"], sink.scratch, limit) if asked["shuffle"] else None
    counted = None if mixed else limit  # of mixed rows the sample is taken at the end
    if isinstance(plan, TypedPlan):
        mixer = stack.enter_context(BatchShuffle(*mixed)) if mixed else None
        passage.pass_typed(files, plan, asked["fill"], counted, mixer)
        return "arrow"
    if isinstance(plan, ColumnPlan):
        passage.pass_columns(files, plan, limit)
        return "columns"
    if sink.takes_batches and all(map(is_columnar, files)):
        log.info("values pass through JSON and get types of their own, as %s", plan)
    passage.pass_rows(rows, counted, stack.enter_context(Shuffle(*mixed)) if mixed else None)
    return "rows"


class Passage:
    """Rows on their way into a sink, and what is noticed of them."""

    def __init__(
        self,
        sink: Sink,
        change: Recasting,
        mapping: Mapping[str, str],
        condition: Where | None = None,
        left_out: LeftOut | None = None,
    ) -> None:
        self.sink, self.watch, self.left_out = sink, ColumnWatch.of(mapping), left_out
        self._change, self._condition = change, condition
        self._asked = ColumnWatch(set(condition.columns if condition else ()), {})
        self._unfilled: Counter[str] = Counter()
        self._mixer: Shuffle | None = None
        self._write: Callable[[Row, Mapping[str, Any]], bytes] = sink.accept

    def pass_rows(self, rows: Iterator[Row | BadRow], limit: int | None = None, mixer: Shuffle | None = None) -> None:
        """All of ``rows`` that match the condition, at most ``limit`` of them; through ``mixer`` where there is one."""
        if mixer is not None:
            self._mixer, self._write = mixer, self._mix
        matching = self._matching(rows) if self._condition else rows
        with closing(with_progress(islice(matching, limit), "converting")) as passing:
            for row in passing:
                self.pass_row(row)
        if mixer is None:
            return
        written = self.sink.ledger.rows_out
        for line in with_progress(mixer.lines(), "writing"):
            self.sink.accept_lines(line + b"\n", 1)
            self.see(line)
        self._enter_unsampled(mixer.taken, written)

    def pass_typed(
        self,
        files: Sequence[str],
        plan: TypedPlan,
        fill: Mapping[str, str],
        limit: int | None,
        mixer: BatchShuffle | None,
    ) -> None:
        """All rows of columnar files with their types, as ``pass_rows``."""
        self.watch.look(dict.fromkeys((*plan.read.names, *self.watch.wanted)))  # the plan found them all
        written = self.sink.ledger.rows_out
        pass_typed(
            files, plan, self.sink, fill=fill, condition=self._condition, limit=limit, mixer=mixer,
            asked=self._asked.look, see=self.see,
        )  # fmt: skip
        if mixer is not None:
            self._enter_unsampled(mixer.taken, written)

    def _enter_unsampled(self, taken: int, written_before: int) -> None:
        if left := taken - (self.sink.ledger.rows_out - written_before):
            self.sink.ledger.filtered[LIMIT] += left

    def pass_columns(self, files: Sequence[str], plan: ColumnPlan, limit: int | None) -> None:
        """All rows of columnar files by ``plan``, at most ``limit`` of them; those it cannot spell one by one."""
        self.watch.look(dict.fromkeys(plan.columns))
        pass_columns(
            files, plan, self.sink, row_by_row=self.pass_row, see=self.see, limit=limit, doing="converting",
            count=self.left_out.add_column if self.left_out else lambda *_: None,
        )  # fmt: skip

    def pass_row(self, row: Row | BadRow) -> None:
        """One row: into the output, or among the rejects."""
        sink = self.sink
        sink.ledger.read(row.file)
        if isinstance(row, BadRow):
            sink.reject(row, "", row.reason)
            return
        self.watch.look(row.data)
        if self._asked.wanted:
            self._asked.look(row.data)
        try:
            made = self._change.make(row)
            for data in made:
                line = self._write(row, data)
                if b"{{" in line:
                    self.see(line)
        except RowFault as fault:
            sink.reject(row, fault.field, fault.reason)
            return
        except RecursionError:
            sink.reject(row, "row", "the row is nested too deep")
            return
        sink.ledger.added += len(made) - 1
        if self.left_out:
            self.left_out.look(row.data)

    def see(self, lines: bytes) -> None:
        """Count the placeholders that are left in lines of JSON."""
        if b"{{" in lines:
            self._unfilled.update(name.decode() for name in _PLACEHOLDER_BYTES.findall(lines))

    def check(self, where: str) -> None:
        """Raise ``UsageError`` for columns asked for that no row had."""
        self.watch.check(where)
        quoted = self._condition.quoted if self._condition else frozenset()
        hint = "Text is written in single quotes: 'like this'. " if self._asked.wanted & quoted else ""
        self._asked.check(where, CONDITION, hint)

    def details(self) -> dict[str, Any]:
        """What the manifest tells beside the ledger."""
        return {
            "left_out": dict(self.left_out.counts.most_common()) if self.left_out else {},
            "placeholders_left": dict(self._unfilled.most_common()),
        }

    def _mix(self, row: Row, data: Mapping[str, Any]) -> bytes:
        """As ``Sink.accept``, into the mixer; which lines are written is only known when all are in it."""
        assert self._mixer is not None
        self._mixer.add(encode_row(data, self.sink.changes))
        return b""

    def _matching(self, rows: Iterator[Row | BadRow]) -> Iterator[Row | BadRow]:
        """The rows that match, and those that cannot be read; the others are entered into the ledger here."""
        assert self._condition is not None
        while batch := list(islice(rows, _JUDGED_ROWS)):
            verdicts = iter(self._condition.judge([row.data for row in batch if isinstance(row, Row)]))
            for row in batch:
                verdict = True if isinstance(row, BadRow) else next(verdicts)
                if verdict is True or isinstance(row, BadRow):
                    yield row
                    continue
                self.sink.ledger.read(row.file)
                self.watch.look(row.data)
                if self._asked.wanted:
                    self._asked.look(row.data)
                if isinstance(verdict, Fault):
                    self.sink.reject(row, CONDITION, verdict.reason)
                else:
                    self.sink.ledger.filtered[CONDITION] += 1


def _spelled_parts(layout: Layout, head: Iterable[Row]) -> str:
    met = [row.data for row in head]
    there = (
        f"{part}={column}"
        for part, column in used_columns(layout).items()
        if any(lookup(data, column, _MISSING) is not _MISSING for data in met)
    )
    return ", ".join(there)


def _tell(outcome: Outcome, to_format: str, hint: str, to_stdout: bool) -> None:
    """Everything that a reader of the output alone would not see."""
    left_out = outcome.details["left_out"]
    if left_out:
        names = ", ".join(f"{name} ×{count:,}" for name, count in left_out.items())
        log.info("left out, as %s has no place for it: %s%s", to_format, names, hint)
    unfilled = list(outcome.details["placeholders_left"].items())
    if unfilled:
        names = ", ".join(f"{{{{{name}}}}} ×{count:,}" for name, count in unfilled[:MOST_PLACEHOLDERS])
        more = f", and {len(unfilled) - MOST_PLACEHOLDERS} other names" if len(unfilled) > MOST_PLACEHOLDERS else ""
        log.warning("placeholders are left unfilled: %s%s. Fill them with --fill NAME=VALUE.", names, more)
    if to_stdout and outcome.num_rejected and not outcome.rejects_file:
        log.warning("rejected rows are not kept, as rows go to stdout; --rejects FILE keeps them")
    if outcome.rows_out:
        return
    if outcome.num_rejected:
        rest = "every one was rejected" if not outcome.filtered else "those that match --where were rejected"
        log.error("no row is left: %s", rest)
    else:
        log.warning("no row matches --where, so the output is empty")
