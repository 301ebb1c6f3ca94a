"""Whether a row is what a step makes of another: the step done once more for this one row, and the contents compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from datakit.layout import AUTO, peek, resolve_conversations, resolve_layout
from datakit.lineage.steps import RoadEnds, Step
from datakit.origins import name_of
from datakit.recast import KEEP, keeping, reading_calls, recasting
from datakit.values import tame
from registry.errors import RowFault, TunekitError
from registry.rows import Row, read_rows

Remake = Callable[[Row], Sequence[Mapping[str, Any]]]


def remake_of(step: Step) -> Remake | None:
    """What the step makes of a row of its inputs; None where that cannot be done again."""
    if step.command in ("validate", "dedup", "split"):
        return lambda row: (row.data,)
    if step.command != "convert":
        return None
    options = step.options
    try:
        if options["to"] == KEEP:
            return keeping(options["map"], options["fill"]).make
        head, _ = peek(read_rows([step.find(told) for told in step.inputs]), AUTO)
        layout = resolve_conversations(options["from"], options["map"], head) or resolve_layout(
            options["from"], options["map"], head
        )
        if layout is None:
            return None
        shape = options.get("shape", AUTO)
        return recasting(reading_calls(layout), options["to"], shape, options["map"], options["fill"]).make
    except (RoadEnds, TunekitError, OSError, LookupError, TypeError):
        return None


def may_mend(step: Step) -> bool:
    """Whether the step also wrote rows that it had changed in a way that is not done again here."""
    return step.command == "validate" and bool(step.options.get("fix") or step.options.get("fix_text"))


def makes(remake: Remake, before: Row, after: Mapping[str, Any]) -> bool:
    """Whether ``after`` is among what becomes of ``before``, whatever container it was written to."""
    try:
        return any(same(tame(made, Counter()), after) for made in remake(before))
    except (RowFault, TunekitError, RecursionError):
        return False


def same(one: Any, other: Any) -> bool:
    """Whether two values are one, though a table may have spelled it otherwise.

    Columns that a row lacks are null in a table. CSV holds text only: numbers as their digits, null as nothing, and
    lists and objects as JSON text. A column of whole numbers and fractions holds fractions.
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(same(one.get(key), other.get(key)) for key in one.keys() | other.keys())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if one is None or other is None:
        return one in (None, "", {}) and other in (None, "", {})
    if type(one) is type(other):
        return bool(one == other)
    if isinstance(one, str) or isinstance(other, str):
        text, value = (one, other) if isinstance(one, str) else (other, one)
        return _is_json_of(text, value) if isinstance(value, list | Mapping) else text == name_of(value)
    return bool(one == other) and not isinstance(one, bool) and not isinstance(other, bool)


def _is_json_of(text: str, value: Any) -> bool:
    try:
        return same(orjson.loads(text), value)
    except orjson.JSONDecodeError:
        return False


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What happened to the columns, in a few lines: renamed, left out, added, changed."""
    gone = [key for key in before if key not in after and before[key] is not None]
    new = [key for key in after if key not in before and after[key] is not None]
    renamed = {}
    for key in list(new):
        source = next((old for old in gone if same(before[old], after[key])), None)
        if source is not None:
            renamed[key] = source
            gone.remove(source)
            new.remove(key)
    changed = [key for key in before if key in after and not same(before[key], after[key])]
    told = {
        "renamed": [f"{key} = {old}" for key, old in renamed.items()],
        "left out": gone,
        "added": new,
        "changed": changed,
    }
    return [f"{what}: {', '.join(names)}" for what, names in told.items() if names]
