"""The functions of a condition by name: how many values each takes, and what it makes of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from datakit.where.values import Fault, Value, equal, kind_of, number_of, text_of, told


@dataclass(frozen=True, slots=True)
class Function:
    """``work`` gets values that are neither null nor faults, and may return a ``Fault``."""

    work: Callable[..., Value]
    least: int = 1
    most: int = 1
    null_is_null: bool = True  # else ``work`` gets nulls too


def _of_text(name: str, work: Callable[..., Any], count: int = 1) -> Function:
    def on_texts(*values: Value) -> Value:
        for value in values:
            if not isinstance(value, str):
                return Fault(f"{name}() takes text, not {told(value)}")
        return work(*values)

    return Function(on_texts, count, count)


def _length(value: Value) -> Value:
    if isinstance(value, str | list | dict):
        return len(value)
    return Fault(f"length() takes text, a list or an object, not {told(value)}")


def _contains(value: Value, part: Value) -> Value:
    if isinstance(value, list):
        return any(equal(item, part) is True for item in value)
    if isinstance(value, str) and isinstance(part, str):
        return part in value
    return Fault(f"contains() looks for text in text or for a value in a list, not for {told(part)} in {told(value)}")


def _abs(value: Value) -> Value:
    return abs(value) if kind_of(value) == "number" else Fault(f"abs() takes a number, not {told(value)}")


def _is_finite(value: Value) -> Value:
    if kind_of(value) != "number":
        return Fault(f"is_finite() takes a number, not {told(value)}")
    return value.is_finite() if isinstance(value, Decimal) else isinstance(value, int) or math.isfinite(value)


def _coalesce(*values: Value) -> Value:
    return next((value for value in values if value is not None), None)


FUNCTIONS: dict[str, Function] = {
    "length": Function(_length),  # characters of a text, items of a list, keys of an object
    "words": _of_text("words", lambda text: len(text.split())),
    "lower": _of_text("lower", str.lower),
    "upper": _of_text("upper", str.upper),
    "trim": _of_text("trim", str.strip),
    "contains": Function(_contains, 2, 2),
    "starts_with": _of_text("starts_with", str.startswith, 2),
    "ends_with": _of_text("ends_with", str.endswith, 2),
    "abs": Function(_abs),
    "is_finite": Function(_is_finite),
    "coalesce": Function(_coalesce, 1, 20, null_is_null=False),  # the first that is not null
    "number": Function(number_of),
    "text": Function(text_of),
}
