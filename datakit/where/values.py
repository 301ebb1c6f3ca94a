"""What the values of a condition are, and how two of them compare, add up and go through a function."""

from __future__ import annotations

import base64
import datetime
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from registry.arrow_rows import TimeText

Value = Any  # None, bool, int, float, Decimal, str, list, dict, or a Fault
_PLAIN = frozenset({str, int, float, bool, type(None), list, dict, Decimal})
_NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_SHOWN = 40  # characters of a value shown in a reason


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a condition cannot be worked out for a row. It decides nothing where the rest of the condition does."""

    reason: str


def as_spelled(value: Any) -> Value:
    """A value as ``docs/formats.md`` says it is spelled, so that every container gives the same answer; decimals stay
    numbers.
    """
    if type(value) in _PLAIN:
        return float(value) if type(value) is Decimal and not value.is_finite() else value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, TimeText | UUID):
        return str(value)
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return list(value)
    return float(value) if isinstance(value, float) else value


def kind_of(value: Value) -> str:
    """``number``, ``text``, ``truth value``, ``list`` or ``object``."""
    if isinstance(value, bool):
        return "truth value"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int | float | Decimal):
        return "number"
    return "list" if isinstance(value, list) else "object"


def told(value: Value) -> str:
    """A value with its kind, for a reason."""
    return f"{_named(kind_of(value))} ({_shown(value)})"


def _named(kind: str) -> str:
    return kind if kind == "text" else f"an {kind}" if kind == "object" else f"a {kind}"


def _shown(value: Value) -> str:
    text = str(text_of(value))
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def text_of(value: Value) -> str | Fault:
    """A value as text: numbers and nested values as JSON spells them."""
    if isinstance(value, str):
        return value
    if isinstance(value, Decimal):
        return f"{value:f}"
    try:
        return orjson.dumps(value, default=lambda inner: text_of(as_spelled(inner))).decode()
    except (TypeError, RecursionError):  # whole numbers beyond 64 bits
        return str(value) if isinstance(value, int) else Fault("this value has no spelling as text")


def number_of(value: Value) -> Value:
    """A value as a number; text without a sign in it is null, as an empty cell of a table is."""
    if kind_of(value) == "number":
        return value
    if not isinstance(value, str):
        return Fault(f"number() takes text, not {told(value)}")
    if not value.strip():
        return None
    if _NUMBER.fullmatch(value) is None or len(value) > 1000:
        return Fault(f"this is no number: {told(value)}")
    return int(value) if value.strip().lstrip("+-").isdecimal() else float(value)


def _compared(sign: str, compare: Callable[[Any, Any], bool]) -> Callable[[Value, Value], Value]:
    ordered = sign not in ("=", "<>")

    def of(left: Value, right: Value) -> Value:
        kind = type(left)
        if kind is type(right) and (kind is str or kind is int):
            return compare(left, right)
        if left is None or right is None:
            return None
        one, other = kind_of(left), kind_of(right)
        if one != other:
            return Fault(f"{_named(one)} cannot be compared with {_named(other)} ({_clash(left, right)})")
        if one == "number":
            return compare(*_in_order(left, right))
        if ordered and one in ("list", "object"):
            return Fault(f"two {one}s have no order")
        return compare(left, right)

    return of


def _in_order(left: Any, right: Any) -> tuple[Any, Any]:
    """Two numbers as Python compares them; NaN equals itself and is above all others, as in SQL engines."""
    if left != left or right != right:
        return (left != left, right != right)
    return left, right


def _clash(left: Value, right: Value) -> str:
    """Two values of different kinds as they are, and the way out where one is a number spelled as text."""
    shown = f"{_shown(left)} and {_shown(right)}"
    text = next((side for side in (left, right) if isinstance(side, str)), "")
    numeric = {kind_of(left), kind_of(right)} == {"text", "number"} and _NUMBER.fullmatch(text)
    return f"{shown}; number(…) makes one of the text" if numeric else shown


COMPARE: dict[str, Callable[[Value, Value], Value]] = {
    "=": _compared("=", operator.eq),
    "<>": _compared("<>", operator.ne),
    "<": _compared("<", operator.lt),
    "<=": _compared("<=", operator.le),
    ">": _compared(">", operator.gt),
    ">=": _compared(">=", operator.ge),
}


def _arithmetic(sign: str, work: Callable[[Any, Any], Any]) -> Callable[[Value, Value], Value]:
    def of(left: Value, right: Value) -> Value:
        if left is None or right is None:
            return None
        for side in (left, right):
            if kind_of(side) != "number":
                return Fault(f"{sign} takes numbers, not {told(side)}")
        if isinstance(left, float) != isinstance(right, float):  # Python adds no decimal to a fraction
            left, right = (float(side) if isinstance(side, Decimal) else side for side in (left, right))
        try:
            return work(left, right)
        except ZeroDivisionError:
            return None
        except (ArithmeticError, ValueError):
            return Fault(f"the numbers are too large for {sign}")

    return of


def _divided(left: Any, right: Any) -> Any:
    if right == 0:
        return None
    return left / right


def _rest(left: Any, right: Any) -> Any:
    """What is left of a division; it has the sign of ``left``, as in SQL."""
    if right == 0:
        return None
    if isinstance(left, float) or isinstance(right, float):
        return math.fmod(left, right) if not math.isinf(left) else math.nan
    if isinstance(left, Decimal) or isinstance(right, Decimal):
        return Decimal(left) % Decimal(right)
    return int(math.copysign(1, left)) * (abs(left) % abs(right)) if left else 0


ARITHMETIC: dict[str, Callable[[Value, Value], Value]] = {
    "+": _arithmetic("+", operator.add),
    "-": _arithmetic("-", operator.sub),
    "*": _arithmetic("*", operator.mul),
    "/": _arithmetic("/", _divided),
    "%": _arithmetic("%", _rest),
}


def equal(left: Value, right: Value) -> Value:
    """``left = right``."""
    return COMPARE["="](left, right)
