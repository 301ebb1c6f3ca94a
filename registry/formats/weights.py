"""How much one message of a conversation is trained: its keys ``weight``, ``loss`` and ``train``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from registry.errors import RowFault
from registry.formats.fields import kind_of

SWITCHES = ("loss", "train")  # true or false
KEYS = ("weight", *SWITCHES)
SMALLEST, LARGEST = 1e-6, 1e6  # of a weight that is not 0: what is beyond makes a loss nothing, or no number


def weight_of(turn: Mapping[str, Any], at: str, *, answers: bool = True) -> float:
    """The weight of one message: 1 where it says nothing (null is nothing), 0 where ``loss`` or ``train`` is false.

    ``answers`` says that the model speaks; of all other turns nothing is trained, and they may say so. Raises
    ``RowFault`` for values that are none, for keys that contradict each other, and for a user's turn to be trained.
    """
    given: dict[str, float] = {}
    for key in KEYS:
        value = turn.get(key)
        if value is None:
            continue
        if key in SWITCHES:
            if not isinstance(value, bool):
                raise RowFault(f"{at}.{key}", f"true or false belongs here, not {kind_of(value)}")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise RowFault(f"{at}.{key}", f"a number of 0 or more belongs here, not {kind_of(value)}")
        elif value and not SMALLEST <= value <= LARGEST:
            raise RowFault(f"{at}.{key}", f"it is {value:g}; between {SMALLEST:g} and {LARGEST:g}, or 0, belongs here")
        given[key] = float(value)
    off = [key for key, value in given.items() if not value]
    on = [key for key, value in given.items() if value]
    if on and off:
        raise RowFault(f"{at}.{on[0]}", f'it says to train the message, and "{off[0]}" says not to')
    if on and not answers:
        raise RowFault(f"{at}.{on[0]}", "only the model's turns are trained; leave it out, or write 0 or false")
    return 0.0 if off else given.get("weight", 1.0)


def check_whole(weight: float, at: str) -> None:
    """Raise ``RowFault`` unless ``weight`` is 1: a judged answer, or one of a pair, is learnt from as it is or not."""
    if weight != 1:
        raise RowFault(
            at, f"an answer that is compared or judged has no weight of its own, and this one has {weight:g}"
        )
