"""Which Arrow types the columnar writer spells exactly as the row path does."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def why_unsafe(schema: pa.Schema) -> str | None:
    """The first column that only the row path spells by the value policy, with its type; None where all are proven.

    Proven (tests/datakit/columns/test_columns.py): text, whole numbers, truth values, 64-bit fractions outside of lists
    and objects, and lists and objects of the others. All else has a policy of its own (docs/formats.md), or a spelling
    in polars that is not ours: 32-bit fractions, decimals, times, bytes, maps, dictionaries.
    """
    if any(map(_holds_nul, schema)):
        return "a column's name holds a NUL"  # polars panics on it
    if len(set(schema.names)) < len(schema.names):
        return "two columns have one name"
    for field in schema:
        if not _is_safe(field.type, at_top=True):
            return f'column "{field.name}" is {field.type}'
    return None


def fractions_of(schema: pa.Schema) -> list[str]:
    """The columns that may hold NaN and infinite numbers, which become null and are counted."""
    import pyarrow as pa

    return [field.name for field in schema if pa.types.is_float64(field.type)]


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds text and nothing else."""
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_safe(kind: pa.DataType, *, at_top: bool) -> bool:
    import pyarrow as pa

    types = pa.types
    if types.is_float64(kind):
        return at_top
    if types.is_list(kind) or types.is_large_list(kind):
        return _is_safe(kind.value_type, at_top=False)
    if types.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        inner = (_is_safe(kind.field(i).type, at_top=False) for i in range(kind.num_fields))
        return bool(names) and len(set(names)) == len(names) and all(inner)
    return bool(is_text(kind) or types.is_integer(kind) or types.is_boolean(kind) or types.is_null(kind))


def _holds_nul(field: pa.Field) -> bool:
    """Whether a name in it, at any depth, holds a NUL."""
    kind = field.type
    return "\0" in field.name or any(_holds_nul(kind.field(i)) for i in range(kind.num_fields))
