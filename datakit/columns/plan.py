"""Whether a conversion can go column by column, and how each batch is then spelled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

from datakit.columns.safe import fractions_of, is_text, why_unsafe
from datakit.columns.shapes import ANSWERS, EXTRAS, KEYS, shape_of
from datakit.columns.spell import flat_lines, shaped_lines
from datakit.values import NON_FINITE
from registry.arrow_rows import values_of
from registry.columnar import is_columnar, schema_of
from registry.datasets import Layout

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Spelled:
    """A batch as lines of JSON.

    ``parts``: blocks of (lines, how many), and indexes of rows left to the row path. ``braces``: whether ``{{`` may be
    in it. ``left_out``: columns that are not used, with the number of rows in blocks that hold something in them.
    """

    parts: Sequence[tuple[bytes, int] | int]
    braces: bool
    changes: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """How to spell the batches of columnar files. ``columns`` are all that the files have, in the order first met."""

    spell: Callable[[pa.RecordBatch], Spelled]
    columns: tuple[str, ...]


def plan_columns(
    files: Sequence[str], layout: Layout | None, to_format: str, mapping: Mapping[str, str]
) -> ColumnPlan | str:
    """The plan for a conversion without filling in, filtering or shuffling; or why only the row path will do.

    ``layout`` None keeps the columns, renamed by ``mapping`` (new name → column); else records keep their kind, and
    ``to_format`` is the format whose columns they get. Raises ``UsageError`` where a file
    cannot be read.
    """
    unlike = next((file for file in files if not is_columnar(file)), None)
    if unlike is not None:
        return f"{unlike} is not columnar"
    if any("." in column for column in mapping.values()):
        return "a mapped name reaches into an object"
    schemas = [schema_of(file) for file in files]
    columns = tuple(dict.fromkeys(name for schema in schemas for name in schema.names))
    if layout is None:
        return next(filter(None, map(why_unsafe, schemas)), None) or _plan_keep(columns, mapping)
    return next(filter(None, (_why_not(schema, layout, to_format) for schema in schemas)), None) or ColumnPlan(
        partial(_spell_shaped, layout=layout, to_format=to_format), columns
    )


def _plan_keep(columns: tuple[str, ...], mapping: Mapping[str, str]) -> ColumnPlan | str:
    new_names: dict[str, list[str]] = {}
    for name, column in mapping.items():
        new_names.setdefault(column, []).append(name)
    if any(name in columns and name not in new_names for name in mapping):
        return "a mapped name is there already"  # an error, which the row path tells with its row
    return ColumnPlan(partial(_spell_kept, new_names=new_names), columns)


def _sound(spell: Callable[..., Spelled]) -> Callable[..., Spelled]:
    """``spell`` for batches of true UTF-8, which polars takes for granted; of others each row finds its own way."""

    @wraps(spell)
    def checked(batch: pa.RecordBatch, **options: Any) -> Spelled:
        import pyarrow as pa

        try:
            batch.validate(full=True)
        except pa.ArrowInvalid:
            return Spelled(range(batch.num_rows), braces=False)
        return spell(batch, **options)

    return checked


@_sound
def _spell_kept(batch: pa.RecordBatch, new_names: Mapping[str, Sequence[str]]) -> Spelled:
    import polars as pl

    frame = pl.DataFrame(pl.from_arrow(batch))
    changed = sum(int((~frame[name].is_finite()).sum() or 0) for name in fractions_of(batch.schema))
    if new_names:
        frame = frame.select(
            pl.col(column).alias(name) for column in frame.columns for name in new_names.get(column, (column,))
        )
    changes = {NON_FINITE: changed} if changed else {}
    return Spelled([(flat_lines(frame), batch.num_rows)], frame.select_seq(_has_braces(frame)).item(), changes)


def _has_braces(frame: pl.DataFrame) -> pl.Expr:
    """Whether ``{{`` may be in any text: looked for in columns of text, taken for granted in those that hold more.

    Looking through the written lines instead would hold up all threads: ``bytes.find`` passes 1 GB/s, this many.
    """
    import polars as pl

    kinds = frame.schema.items()
    if any(kind.is_nested() or kind in (pl.Categorical, pl.Enum) for _, kind in kinds):
        return pl.lit(True)
    found = [pl.col(name).str.contains("{{", literal=True).any() for name, kind in kinds if kind == pl.String]
    return pl.any_horizontal(found) if found else pl.lit(False)


def _why_not(schema: pa.Schema, layout: Layout, to_format: str) -> str | None:
    """Why rows of this layout cannot be spelled from their columns alone."""
    import pyarrow as pa

    if layout.formatting != "alpaca" or layout.kind not in ANSWERS:
        return f"{layout.formatting} ({layout.kind}) rows are read one by one"
    if shape_of(to_format, layout.kind, frozenset()) is None:
        return f"to {to_format}, rows are written one by one"
    parts = {part: getattr(layout.columns, part) for part in layout.columns.__dataclass_fields__}
    for part in ("prompt", *ANSWERS[layout.kind]):
        if parts[part] not in schema.names:
            return f'there is no column "{parts[part]}"'
    for part, column in parts.items():
        if column not in schema.names:
            continue
        kind = schema.field(column).type
        if not (_fits(part, kind) or (pa.types.is_null(kind) and part not in ANSWERS[layout.kind])):
            return f'column "{column}" is {kind}'
    return "two columns have one name" if len(set(schema.names)) < len(schema.names) else None


def _fits(part: str, kind: pa.DataType) -> bool:
    """Whether the row path takes every value of a type for ``part``, so that none needs to be looked at."""
    import pyarrow as pa

    if part == "kto_tag":
        return bool(pa.types.is_boolean(kind))
    if part == "history":
        return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))
    return is_text(kind)


@_sound
def _spell_shaped(batch: pa.RecordBatch, layout: Layout, to_format: str) -> Spelled:
    import polars as pl

    names = layout.columns
    present = set(batch.schema.names)
    parts = {
        part: column
        for part in ("prompt", "query", "system", "tools", "history", *ANSWERS[layout.kind])
        if (column := getattr(names, part)) in present
    }
    frame = pl.DataFrame(pl.from_arrow(batch.select(sorted(set(parts.values())))))

    def text(part: str) -> pl.Expr:
        return pl.col(parts[part]).cast(pl.String).fill_null("") if part in parts else pl.lit("")

    answers = {part: pl.col(parts[part]) for part in ANSWERS[layout.kind]}
    good = pl.all_horizontal([answer.is_not_null() for answer in answers.values()])
    if "history" in parts and frame.schema[parts["history"]] != pl.Null:
        good &= pl.col(parts["history"]).list.len().fill_null(0) == 0
    asked = {"instruction": text("prompt"), "input": text("query")}
    if to_format != "alpaca":
        asked = {"question": _joined(*asked.values())}
    extras = {extra: text(extra) for extra in EXTRAS}
    plain = pl.all_horizontal(good, *(extra == "" for extra in extras.values())).all()
    texts = frame.drop(parts["history"]) if "history" in parts else frame  # rows with one are left to the row path
    # One call for all, of one thread: calls cost as much as what they do, and the other threads have batches too.
    columns = frame.select_seq(good=good, plain=plain, braces=_has_braces(texts), **asked, **extras, **answers)
    parts_of_lines = _by_variant(columns, layout.kind, to_format)
    rows_left = [part for part in parts_of_lines if isinstance(part, int)]
    unused = batch.select([name for name in batch.schema.names if name not in parts.values()])
    return Spelled(parts_of_lines, columns["braces"][0], left_out=_held(unused, rows_left))


def _held(batch: pa.RecordBatch, but_rows: Sequence[int]) -> dict[str, int]:
    """In how many rows each column holds something: neither null nor empty text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    taken = [True] * batch.num_rows if but_rows else []
    for row in but_rows:
        taken[row] = False
    counts = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if _is_indirect(column.type):
            there = pa.array([value not in (None, "") for value in values_of(column)], pa.bool_())
        else:
            there = pc.is_valid(column)
        if is_text(column.type):
            if pa.types.is_string_view(column.type):  # which pyarrow 26 cannot compare
                column = column.cast(pa.large_string())
            there = pc.and_(there, pc.fill_null(pc.not_equal(column, ""), False))
        if taken:
            there = pc.and_(there, pa.array(taken))
        counts[name] = pc.sum(there).as_py() or 0
    return counts


def _is_indirect(kind: pa.DataType) -> bool:
    """Whether a column of a type keeps its values, and its nulls, somewhere else."""
    import pyarrow as pa

    types = pa.types
    return bool(
        types.is_dictionary(kind)
        or types.is_run_end_encoded(kind)
        or types.is_union(kind)
        or isinstance(kind, pa.BaseExtensionType)
    )


def _joined(prompt: pl.Expr, query: pl.Expr) -> pl.Expr:
    """What of the two is not empty, joined by a line break (as LLaMA-Factory 0.9.5, data/converter.py)."""
    import polars as pl

    both = pl.concat_str([prompt, query], separator="\n")
    return pl.when(query == "").then(prompt).when(prompt == "").then(query).otherwise(both)


def _by_variant(columns: pl.DataFrame, kind: str, to_format: str) -> list[tuple[bytes, int] | int]:
    """Rows with a system prompt, with tools, with both and with neither have lines of different shapes."""
    import polars as pl

    keys = KEYS.get(to_format, ("", ""))
    plain = shape_of(to_format, kind, frozenset())
    if plain is not None and columns["plain"][0]:
        return [(shaped_lines(columns, plain, keys), columns.height)]
    pieces: dict[int, bytes] = {}
    for key, rows in columns.with_row_index("at").group_by("good", *(pl.col(extra) != "" for extra in EXTRAS)):
        there = frozenset(extra for extra, is_there in zip(EXTRAS, key[1:], strict=True) if is_there)
        shape = shape_of(to_format, kind, there)
        if key[0] and shape is not None:
            lines = shaped_lines(rows, shape, keys)
            pieces.update(zip(rows["at"].to_list(), lines.split(b"\n"), strict=False))
    return _runs(pieces, columns.height)


def _runs(lines: Mapping[int, bytes], height: int) -> list[tuple[bytes, int] | int]:
    """Lines that follow each other as one block; the index of each row that has none in between."""
    found: list[tuple[bytes, int] | int] = []
    run: list[bytes] = []
    for at in range(height + 1):
        line: Any = lines.get(at)
        if line is not None:
            run.append(line)
            continue
        if run:
            found.append((b"\n".join(run) + b"\n", len(run)))
            run = []
        if at < height:
            found.append(at)
    return found
