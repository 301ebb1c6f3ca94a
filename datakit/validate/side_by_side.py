"""Faults of rows with question and answer side by side: alpaca, its preference and feedback rows, and plain text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from datakit.validate.faults import Fault, is_blank, pointer, shown
from datakit.validate.judged import judgement
from datakit.validate.tools import tools_given
from registry.datasets import Layout
from registry.formats.fields import kind_of


def faults_side_by_side(data: Mapping[str, Any], layout: Layout) -> list[Fault]:
    """Every fault in the structure of one row, in the order of its parts."""
    columns = layout.columns
    if layout.kind == "text":
        return _plain_text(data, str(columns.prompt))
    texts = (columns.prompt, columns.query, columns.system, columns.tools)
    found = [fault for column in texts if column for fault in _optional_text(data, column, layout)]
    found += _question(data, layout)
    found += _history(data, columns.history)
    if layout.kind == "preference":
        return found + _pair(data, str(columns.chosen), str(columns.rejected))
    found += _answer(data, str(columns.response), judged=layout.kind == "feedback")
    if layout.kind == "feedback":
        found += judgement(data, str(columns.kto_tag))
    return found


def _plain_text(data: Mapping[str, Any], column: str) -> list[Fault]:
    value = data.get(column)
    if value is None:
        reason = "the text is null" if column in data else "the field is missing"
        return [Fault("TX001", pointer(column), reason)]
    if not isinstance(value, str):
        return [Fault("TX002", pointer(column), f"text belongs here, not {kind_of(value)}", shown(value))]
    return [Fault("TX003", pointer(column), "the text is empty")] if is_blank(value) else []


def _optional_text(data: Mapping[str, Any], column: str, layout: Layout) -> list[Fault]:
    value = data.get(column)
    if value is None:
        return []
    if isinstance(value, str):
        return tools_given(value, column) if column == layout.columns.tools else []
    mendable = is_empty(value) or is_whole(value) or (column == layout.columns.tools and is_spellable(value))
    return [Fault("AL002", pointer(column), f"text belongs here, not {kind_of(value)}", shown(value), mendable)]


def is_empty(value: Any) -> bool:
    """Whether a value is a list or an object with nothing in it."""
    return isinstance(value, list | dict) and not value


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, which has one spelling as text."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_spellable(value: Any) -> bool:
    """Whether a list or an object of tools can be written as JSON text."""
    if not isinstance(value, list | dict):
        return False
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _question(data: Mapping[str, Any], layout: Layout) -> list[Fault]:
    names = [column for column in (layout.columns.prompt, layout.columns.query) if column]
    values = [data.get(column) for column in names]
    if any(value is not None and not isinstance(value, str) for value in values):
        return []  # told as such
    if not all(is_blank(value or "") for value in values):
        return []
    column = names[0] if names else "instruction"
    reason = "the question is empty" if any(name in data for name in names) else "the question is missing"
    return [Fault("AL003", pointer(column), reason)]


def _history(data: Mapping[str, Any], column: str | None) -> list[Fault]:
    value = data.get(column) if column else None
    if column is None or value is None:
        return []
    if not isinstance(value, list):
        reason = f"a list of [question, answer] pairs belongs here, not {kind_of(value)}"
        mendable = is_empty(value) or (isinstance(value, str) and (is_blank(value) or is_json_list(value)))
        return [Fault("AL005", pointer(column), reason, shown(value), mendable)]
    found = []
    for number, pair in enumerate(value):
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(side, str) for side in pair)):
            found.append(Fault("AL006", pointer(column, number), "a pair of texts [question, answer] belongs here"))
            continue
        found += [
            Fault(code, pointer(column, number, side), f"the {what} is empty")
            for side, (code, what) in enumerate((("AL007", "question"), ("AL008", "answer")))
            if is_blank(pair[side])
        ]
    return found


def is_json_list(text: str) -> bool:
    """Whether a text holds a JSON list, as cells of CSV files do."""
    if not text.lstrip().startswith("["):
        return False
    try:
        return isinstance(json.loads(text), list)
    except (ValueError, RecursionError):
        return False


def _answer(data: Mapping[str, Any], column: str, *, judged: bool) -> list[Fault]:
    value = data.get(column)
    if value is None:
        reason = "text belongs here, not null" if column in data else "the field is missing"
        return [Fault("AL001", pointer(column), reason)]
    if not isinstance(value, str):
        reason = f"text belongs here, not {kind_of(value)}"
        return [Fault("AL002", pointer(column), reason, shown(value), is_whole(value))]
    if not is_blank(value):
        return []
    code, what = ("KT004", "judged answer") if judged else ("AL004", "answer")
    return [Fault(code, pointer(column), f"the {what} is empty")]


def _pair(data: Mapping[str, Any], chosen: str, rejected: str) -> list[Fault]:
    found = []
    for column in (chosen, rejected):
        value = data.get(column)
        if value is None:
            reason = "text belongs here, not null" if column in data else "the field is missing"
            found.append(Fault("PF001", pointer(column), reason))
        elif not isinstance(value, str):
            reason = f"text belongs here, not {kind_of(value)}"
            found.append(Fault("PF002", pointer(column), reason, shown(value), is_whole(value)))
        elif is_blank(value):
            found.append(Fault("PF004", pointer(column), f"the {column} answer is empty"))
    return found or equal_answers(data[chosen], data[rejected], pointer(chosen))


def equal_answers(chosen: str, rejected: str, place: str) -> list[Fault]:
    """The fault of a pair whose answers say the same."""
    same = chosen.strip() == rejected.strip()
    return [Fault("PF005", place, "chosen and rejected are the same", shown(chosen))] if same else []
