"""Every text that a row trains on, with its place: what the rules for texts look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from datakit.validate.faults import pointer
from datakit.validate.turns import Spelling, spelling_of
from registry.datasets import Layout
from registry.records import MODEL_SIDE


@dataclass(frozen=True, slots=True)
class Text:
    """One text of a row. ``is_answer``: the model is taught to say it."""

    pointer: str
    text: str
    is_answer: bool


def texts_of(data: Mapping[str, Any], layout: Layout) -> Iterator[Text]:
    """The texts of one row, as far as they are texts; rows with faults have fewer."""
    columns = layout.columns
    if layout.formatting == "alpaca":
        if layout.kind == "text":
            yield from _column(data, columns.prompt)
            return
        for column in (columns.system, columns.tools, columns.prompt, columns.query):
            yield from _column(data, column)
        yield from _history(data, columns.history)
        for column in (columns.response, columns.chosen, columns.rejected):
            yield from _column(data, column, is_answer=True)
        return
    yield from _column(data, columns.system)
    yield from _column(data, columns.tools)
    spelling = spelling_of(layout)
    turns = data.get(str(columns.messages))
    for number, turn in enumerate(turns if isinstance(turns, list) else ()):
        yield from _turn(turn, pointer(str(columns.messages), number), spelling)
    for column in (columns.chosen, columns.rejected):
        if column is not None:
            yield from _turn(data.get(column), pointer(column), spelling)


def _column(data: Mapping[str, Any], column: str | None, *, is_answer: bool = False) -> Iterator[Text]:
    value = data.get(column) if column else None
    if column and isinstance(value, str):
        yield Text(pointer(column), value, is_answer)


def _history(data: Mapping[str, Any], column: str | None) -> Iterator[Text]:
    pairs = data.get(column) if column else None
    for number, pair in enumerate(pairs if isinstance(pairs, list) else ()):
        for side, text in enumerate(pair if isinstance(pair, list | tuple) else ()):
            if isinstance(text, str):
                yield Text(pointer(str(column), number, side), text, side == 1)


def _turn(turn: Any, at: str, spelling: Spelling) -> Iterator[Text]:
    if not isinstance(turn, dict):
        return
    tag = str(spelling.tags.content_tag)
    name = turn.get(str(spelling.tags.role_tag))
    text = turn.get(tag)
    if isinstance(text, str):
        role = spelling.roles.get(name) if isinstance(name, str) else None
        yield Text(f"{at}{pointer(tag)}", text, role in MODEL_SIDE)
    calls = turn.get("tool_calls") if spelling.with_calls else None
    for number, call in enumerate(calls if isinstance(calls, list) else ()):
        function = call.get("function", call) if isinstance(call, dict) else None
        arguments = function.get("arguments") if isinstance(function, dict) else None
        if isinstance(arguments, str):
            within = "/function" if "function" in call else ""
            yield Text(f"{at}/tool_calls/{number}{within}/arguments", arguments, True)
