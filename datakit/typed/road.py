"""Batches of columnar files through a plan into Parquet: chosen by --where, filled in, renamed, mixed, and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from datakit.recast import filled
from datakit.summary import with_progress
from datakit.typed.plan import TypedPlan
from datakit.typed.shuffle import BatchShuffle
from datakit.where import Where
from datakit.where.condition import CONDITION
from datakit.where.values import Fault
from datakit.write import Sink
from registry.arrow_rows import rows_of, values_of
from registry.columnar import read_batches
from registry.rows import BadRow, Row
from registry.rows.columns import one_row

if TYPE_CHECKING:
    import pyarrow as pa

Look = Callable[[Mapping[str, Any]], None]


def pass_typed(
    files: Sequence[str],
    plan: TypedPlan,
    sink: Sink,
    *,
    fill: Mapping[str, str],
    condition: Where | None,
    limit: int | None,
    mixer: BatchShuffle | None,
    asked: Look,
    see: Callable[[bytes], None],
) -> None:
    """Every row of ``files`` that matches ``condition`` into ``sink``, at most ``limit`` of them; through ``mixer``
    where there is one.

    ``asked`` looks at the columns that the condition names, ``see`` at each text with placeholders in it.
    """
    batches = with_progress(_batches(files), "converting", size=lambda item: item[2].num_rows)
    left = limit
    sink.begin_batches(plan.schema)
    with closing(batches) as passing:
        for file, first, batch in passing:
            if left == 0:
                break
            taken, count = _matching(file, first, _aligned(batch, plan.read), sink, condition, left, asked)
            left = None if left is None else left - count
            made = _made(taken, plan, fill)
            if mixer is None:
                _write(made, sink, see)
            else:
                mixer.add(made)
    if mixer is not None:
        for made in with_progress(mixer.batches(plan.schema), "writing", size=lambda batch: batch.num_rows):
            _write(made, sink, see)


def _write(batch: pa.RecordBatch, sink: Sink, see: Callable[[bytes], None]) -> None:
    sink.accept_batch(batch)
    for column in batch.columns:
        for text in _with_braces(column):
            see(text.encode("utf-8", "replace"))


def _batches(files: Sequence[str]) -> Iterator[tuple[str, int, pa.RecordBatch]]:
    for file in files:
        first = 1
        for batch in read_batches(file):
            if batch.num_rows:
                yield file, first, batch
            first += batch.num_rows


def _matching(
    file: str, first: int, batch: pa.RecordBatch, sink: Sink, condition: Where | None, limit: int | None, asked: Look
) -> tuple[pa.RecordBatch, int]:
    """The rows of a batch to go on with, and how many count towards ``limit``; all others are entered in the books."""
    import pyarrow as pa

    readable = _readable(batch)
    if condition is None and readable is None:
        taken = batch.slice(0, limit)
        sink.ledger.read(file, taken.num_rows)
        return taken, taken.num_rows
    verdicts = iter(_verdicts(batch, readable, condition, asked))
    keep = [False] * batch.num_rows
    count = 0
    for at, verdict in enumerate(verdicts):
        if count == limit:
            break
        sink.ledger.read(file)
        if readable is not None and not readable[at]:
            reason, raw = one_row(batch.slice(at, 1))
            sink.reject(BadRow(file, first + at, str(reason), str(raw)), "", str(reason))
            count += 1
        elif verdict is True:
            keep[at] = True
            count += 1
        elif isinstance(verdict, Fault):
            sink.reject(Row(file, first + at, rows_of(batch.slice(at, 1))[0]), CONDITION, verdict.reason)
        else:
            sink.ledger.filtered[CONDITION] += 1
    return batch.filter(pa.array(keep)), count


def _verdicts(
    batch: pa.RecordBatch, readable: list[bool] | None, condition: Where | None, asked: Look
) -> list[bool | Fault | None]:
    """What the condition says of each row; true where there is none, and for rows that cannot be read."""
    import pyarrow as pa

    if condition is None:
        return [True] * batch.num_rows
    good = batch if readable is None else batch.filter(pa.array(readable))
    names = [name for name in batch.schema.names if _is_asked(name, condition)]
    rows = rows_of(good.select(names)) if names else [{}] * good.num_rows
    columns = dict.fromkeys(batch.schema.names)
    for row in rows:
        asked({**columns, **row})
    found = condition.judge(rows)
    if readable is None:
        return found
    passing = iter(found)
    return [next(passing) if good else True for good in readable]


def _is_asked(name: str, condition: Where) -> bool:
    return any(column == name or column.startswith(name + ".") for column in condition.columns)


def _readable(batch: pa.RecordBatch) -> list[bool] | None:
    """Which rows hold text that is UTF-8; None where all do."""
    import pyarrow as pa

    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        return [isinstance(one_row(batch.slice(i, 1)), dict) for i in range(batch.num_rows)]
    return None


def _made(batch: pa.RecordBatch, plan: TypedPlan, fill: Mapping[str, str]) -> pa.RecordBatch:
    """The rows as they are written: filled in and renamed."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns: dict[str, Any] = dict(zip(batch.schema.names, batch.columns, strict=True))
    for name in plan.texts if fill else ():
        if _with_braces(columns[name]):
            columns[name] = pa.array(filled(values_of(columns[name]), fill), columns[name].type)
    arrays = [pc.struct_field(columns[top], list(steps)) if steps else columns[top] for top, steps in plan.sources]
    return pa.RecordBatch.from_arrays(arrays, schema=plan.schema)


def _aligned(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """``batch`` with the types of ``schema``, and nulls in columns that only other files have."""
    import pyarrow as pa

    columns = [
        pa.nulls(batch.num_rows, field.type) if at < 0 else _as(batch.column(at), field.type)
        for field in schema
        for at in [batch.schema.get_field_index(field.name)]
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _as(column: Any, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    return column if column.type.equals(kind) else column.cast(kind)


def _with_braces(column: Any) -> list[str]:
    """The texts anywhere in a column that hold ``{{``."""
    import pyarrow.compute as pc

    found: list[str] = []
    for leaf in _leaves(column):
        counts = pc.match_substring(leaf, "{{")
        if pc.any(counts).as_py():
            found += leaf.filter(counts).to_pylist()
    return found


def _leaves(column: Any) -> Iterator[Any]:
    import pyarrow as pa

    kind, types = column.type, pa.types
    if isinstance(kind, pa.BaseExtensionType) or types.is_union(kind):
        return
    if types.is_dictionary(kind):
        yield from _leaves(column.dictionary_decode())
    elif types.is_map(kind):
        yield from _leaves(column.keys)
        yield from _leaves(column.items)
    elif types.is_struct(kind) or types.is_nested(kind):
        inner = column.flatten()
        for child in inner if types.is_struct(kind) else (inner,):
            yield from _leaves(child)
    elif types.is_string(kind) or types.is_large_string(kind):
        yield column
