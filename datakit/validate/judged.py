"""Faults of the field that says whether an answer is good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datakit.validate.faults import Fault, pointer, shown
from registry.formats.fields import kind_of

JUDGEMENTS = {"true": True, "false": False}


def judgement(data: Mapping[str, Any], column: str) -> list[Fault]:
    """The fault of a judgement that is not true or false. Text that says so can be mended, numbers cannot: whether 1
    is good, or the index of the better one, is not sure."""
    value = data.get(column)
    if value is None:
        reason = "true or false belongs here, not null" if column in data else "the field is missing"
        return [Fault("KT001", pointer(column), reason)]
    if isinstance(value, bool):
        return []
    reason = f"true or false belongs here, not {kind_of(value)}"
    if isinstance(value, str) and value.strip().lower() in JUDGEMENTS:
        return [Fault("KT002", pointer(column), reason, shown(value), fixable=True)]
    return [Fault("KT003", pointer(column), reason, shown(value))]
