"""Whether rows can stay in Arrow on their way into Parquet, and the schema that they then have."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry.arrow_rows import is_plain
from registry.columnar import is_columnar, schema_of

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class TypedPlan:
    """``schema`` is what is written; ``sources`` says for each of its columns which column of the files it is, and the
    fields to go into from there; ``texts`` are the columns of the files in which placeholders can stand.
    """

    schema: pa.Schema
    sources: tuple[tuple[str, tuple[str, ...]], ...]
    read: pa.Schema
    texts: tuple[str, ...]


def plan_typed(files: Sequence[str], mapping: Mapping[str, str], fill: Mapping[str, str]) -> TypedPlan | str:
    """The plan for rows that go into Parquet with the columns they have, renamed by ``mapping``; or why they must pass
    through JSON.

    Raises ``UsageError`` where a file cannot be read.
    """
    import pyarrow as pa

    unlike = next((file for file in files if not is_columnar(file)), None)
    if unlike is not None:
        return f"{unlike} is not columnar"
    schemas = [schema_of(file) for file in files]
    fields: dict[str, pa.Field] = {}
    for schema in schemas:
        if len(set(schema.names)) < len(schema.names):
            return "two columns have one name"
        for field in schema:
            before = fields.get(field.name)
            kind = common_type(before.type, field.type) if before is not None else field.type
            if kind is None:
                return f'column "{field.name}" is {before.type} in one file and {field.type} in another'  # type: ignore[union-attr]
            fields[field.name] = field.with_type(kind).with_nullable(True)
    read = pa.schema([field.with_type(_kept(field.type)) for field in fields.values()])
    texts = tuple(field.name for field in read if holds_text(field.type))
    odd = next((name for name in texts if fill and not is_plain(read.field(name).type)), None)
    if odd is not None:
        return f'column "{odd}" is {read.field(odd).type}, in which nothing can be filled in'
    planned = _renamed(read, mapping)
    if isinstance(planned, str):
        return planned
    metadata = schemas[0].metadata if not mapping and all(s.metadata == schemas[0].metadata for s in schemas) else None
    schema = pa.schema([field for field, _ in planned], metadata)
    return _why_not_written(schema) or TypedPlan(schema, tuple(source for _, source in planned), read, texts)


def common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The type that holds every value of both exactly; None where there is none, or none that is simple."""
    import pyarrow as pa

    types = pa.types
    if one.equals(other):
        return one
    if types.is_null(one) or types.is_null(other):
        return other if types.is_null(one) else one
    for alike in (types.is_signed_integer, types.is_unsigned_integer, types.is_floating):
        if alike(one) and alike(other):
            return max(one, other, key=lambda kind: kind.bit_width)
    texts = (types.is_string, types.is_large_string, types.is_string_view)
    if any(is_text(one) for is_text in texts) and any(is_text(other) for is_text in texts):
        return pa.large_string()
    return None


def _kept(kind: Any) -> pa.DataType:
    """``kind`` itself, or the type of the same values that Parquet and Arrow's functions know."""
    import pyarrow as pa

    types = pa.types
    if types.is_run_end_encoded(kind):
        return _kept(kind.value_type)
    if types.is_string_view(kind):
        return pa.large_string()
    return pa.large_binary() if types.is_binary_view(kind) else kind


def holds_text(kind: Any) -> bool:
    """Whether text can stand anywhere in values of a type."""
    import pyarrow as pa

    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return False
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return holds_text(kind.value_type)
    if types.is_map(kind):
        return holds_text(kind.key_type) or holds_text(kind.item_type)
    if types.is_struct(kind):
        return any(holds_text(field.type) for field in kind)
    if types.is_nested(kind):
        return not types.is_union(kind) and holds_text(kind.value_type)
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _renamed(read: pa.Schema, mapping: Mapping[str, str]) -> list[tuple[pa.Field, tuple[str, tuple[str, ...]]]] | str:
    """The fields written, each with where it comes from, in the order of ``datakit.recast.renamed``."""
    new_names: dict[str, list[str]] = {}
    for name, column in mapping.items():
        new_names.setdefault(column, []).append(name)
    found: dict[str, tuple[pa.Field, tuple[str, tuple[str, ...]]]] = {}
    for field in read:
        if field.name in mapping and field.name not in new_names:
            return f'"{field.name}" is there already'  # an error, which the row path tells with its row
        for name in new_names.get(field.name, (field.name,)):
            found[name] = (field.with_name(name), (field.name, ()))
    for column, names in new_names.items():
        if column in read.names:
            continue
        top, *steps = column.split(".")
        kind = _within(read, top, steps)
        if kind is None:
            return f"{column} reaches into more than objects"
        for name in names:
            found[name] = (_field(name, kind), (top, tuple(steps)))
    return list(found.values())


def _within(read: pa.Schema, top: str, steps: Sequence[str]) -> pa.DataType | None:
    """The type of what ``steps`` lead to, where they lead through objects alone."""
    import pyarrow as pa

    if top not in read.names:
        return None
    kind = read.field(top).type
    for step in steps:
        if not pa.types.is_struct(kind) or kind.get_field_index(step) < 0:
            return None
        kind = kind.field(step).type
    return kind


def _field(name: str, kind: pa.DataType) -> pa.Field:
    import pyarrow as pa

    return pa.field(name, kind)


def _why_not_written(schema: pa.Schema) -> str | None:
    """What pyarrow says where it cannot write, select or sort such columns: tried with a row of nulls."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not schema.names:
        return "there is no column"
    for field in schema:
        try:
            table = pa.table({"column": pa.nulls(1, field.type)})
            table.take(pa.array([0])).filter(pa.array([True]))
            pq.write_table(table, io.BytesIO())
        except (pa.ArrowException, OSError, ValueError) as error:
            return f'column "{field.name}" is {field.type}: {str(error).splitlines()[0]}'
    return None
