"""Whether a conversion can go column by column, and how each batch is then spelled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

from datakit.columns.safe import fractions_of, is_text, why_unsafe
from datakit.columns.shapes import ANSWERS, KEYS, shape_of
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
    return Spelled([(flat_lines(frame), batch.num_rows)], _has_braces(frame), changes)


def _has_braces(frame: pl.DataFrame) -> bool:
    """Whether ``{{`` may be in any text: looked for in columns of text, taken for granted in lists and objects.

    Looking through the written lines instead would hold up all threads: ``bytes.find`` passes 1 GB/s, this many.
    """
    import polars as pl

    texts = [name for name, kind in frame.schema.items() if kind == pl.String]
    if any(kind.is_nested() for kind in frame.schema.values()):
        return True
    found = frame.select(pl.col(name).str.contains("{{", literal=True).any() for name in texts)
    return bool(texts) and any(found.row(0))


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

    good = pl.all_horizontal([pl.col(parts[part]).is_not_null() for part in ANSWERS[layout.kind]])
    if "history" in parts and frame.schema[parts["history"]] != pl.Null:
        good &= pl.col(parts["history"]).list.len().fill_null(0) == 0
    columns = frame.select(
        question=_joined(text("prompt"), text("query")),
        instruction=text("prompt"),
        input=text("query"),
        system=text("system"),
        tools=text("tools"),
        good=good,
        **{part: pl.col(parts[part]) for part in ANSWERS[layout.kind]},
    )
    parts_of_lines = _by_variant(columns, layout.kind, to_format)
    rows_left = [part for part in parts_of_lines if isinstance(part, int)]
    unused = batch.select([name for name in batch.schema.names if name not in parts.values()])
    return Spelled(parts_of_lines, _has_braces(columns), left_out=_held(unused, rows_left))


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

    pieces: dict[int, bytes] = {}
    height = columns.height
    for key, rows in columns.with_row_index("at").group_by(
        "good", pl.col("system") != "", pl.col("tools") != "", maintain_order=True
    ):
        extras = frozenset(name for name, there in zip(("system", "tools"), key[1:], strict=True) if there)
        shape = shape_of(to_format, kind, extras)
        if not key[0] or shape is None:
            continue
        lines = shaped_lines(rows, shape, KEYS.get(to_format, ("", "")))
        if rows.height == height:
            return [(lines, height)]
        pieces.update(zip(rows["at"].to_list(), lines.split(b"\n"), strict=False))
    return _runs(pieces, height)


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
