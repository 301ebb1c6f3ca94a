"""JSON as the standard library reads it, with whole numbers of any size exact and without numbers that are none."""

from __future__ import annotations

import json
import math
from typing import Any


class NumberFault(ValueError):
    """A number that cannot be held: a fraction beyond 1.8e308, or a whole number of thousands of digits."""


def _fraction(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise NumberFault(f"the number {_shown(text)} is too large")
    return value


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # Python's guard against numbers that take it minutes; a setting of the process
        raise NumberFault(f"the number {_shown(text)} of {len(text):,} digits is too large") from None


def _shown(text: str) -> str:
    return text if len(text) <= 20 else text[:20] + "…"


def _refuse_constant(name: str) -> Any:
    raise json.JSONDecodeError(f"{name} is not a JSON number", "", 0)


EXACT = json.JSONDecoder(parse_float=_fraction, parse_int=_whole, parse_constant=_refuse_constant)
