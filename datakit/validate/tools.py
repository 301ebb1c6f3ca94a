"""Faults of the tools that a row offers, and of the calls that it makes of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from datakit.validate.faults import Fault, is_blank, pointer, shown
from registry.errors import RowFault
from registry.formats.fields import json_text, json_value, kind_of

# What a reasoning model thinks before it calls; templates keep it apart from the call's JSON.
THOUGHT = re.compile(r"(?s)\A\s*<think>.*?</think>")


def tools_given(value: Any, column: str) -> list[Fault]:
    """The faults of tools, given as JSON text or as the list itself. Nothing at all, or blank text, is no fault."""
    place = pointer(column)
    if isinstance(value, str):
        if is_blank(value):
            return []
        try:
            value = json_value(value, column)
        except RowFault as fault:
            return [Fault("TL001", place, f"the tools are {fault.reason}", shown(value))]
    else:
        try:
            json_text(value, column)
        except RowFault as fault:
            return [Fault("TL001", place, fault.reason)]
    if not isinstance(value, list):
        mendable = value is None or (isinstance(value, dict) and (not value or name_of_tool(value) is not None))
        return [Fault("TL002", place, f"a list of tools belongs here, not {kind_of(value)}", fixable=mendable)]
    return [
        Fault("TL003", place, f"tool {number} has no name")
        for number, tool in enumerate(value)
        if name_of_tool(tool) is None
    ]


def name_of_tool(tool: Any) -> str | None:
    """The name of one tool, bare or wrapped as ``{"type": "function", "function": …}``; None where it has none."""
    if isinstance(tool, Mapping) and isinstance(tool.get("function"), Mapping):
        tool = tool["function"]
    name = tool.get("name") if isinstance(tool, Mapping) else None
    return name if isinstance(name, str) and name else None


def names_given(value: Any) -> frozenset[str] | None:
    """The names of all tools; None where there are none, or where they have faults of their own."""
    if isinstance(value, str):
        return _names_in_text(value)
    if not isinstance(value, list) or not value:
        return None
    names = [name_of_tool(tool) for tool in value]
    return None if None in names else frozenset(map(str, names))


@lru_cache(maxsize=256)
def _names_in_text(text: str) -> frozenset[str] | None:
    try:
        value = json_value(text, "")
    except RowFault:
        return None
    return None if isinstance(value, str) else names_given(value)


def written_calls(content: str, place: str, given: Any) -> list[Fault]:
    """The faults of a function turn whose text is the JSON of its calls (LLaMA-Factory 0.9.5, data/formatter.py)."""
    try:
        value = json_value(THOUGHT.sub("", content, count=1), "")
    except RowFault as fault:
        return [Fault("TL004", place, f"the function call is {fault.reason}", shown(content))]
    calls = value if isinstance(value, list) else [value]
    if not calls:
        return [Fault("TL005", place, "the list of function calls is empty")]
    found = []
    for call in calls:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str) or "arguments" not in call:
            found.append(Fault("TL005", place, "a function call needs a name and arguments", shown(content)))
        else:
            found += called(call["name"], place, given)
    return found


def called(name: str, place: str, given: Any) -> list[Fault]:
    """The fault of a call of ``name`` among the tools ``given``; tools that have faults of their own are not asked."""
    names = names_given(given)
    if names is not None and name not in names:
        return [Fault("TL006", place, f'the tool "{name}" is not in tools: {", ".join(sorted(names))[:200]}', name)]
    if not given or (isinstance(given, str) and is_blank(given)):
        return [Fault("TL007", place, f'the tool "{name}" is called, and the row offers none', name)]
    return []


def listed_calls(calls: Any, place: str, given: Any) -> list[Fault]:
    """The faults of ``tool_calls``, a list of objects with a function each."""
    if not isinstance(calls, list):
        return [Fault("TL008", place, f"a list of calls belongs here, not {kind_of(calls)}", shown(calls))]
    found: list[Fault] = []
    made: list[dict[str, Any]] = []
    for number, call in enumerate(calls):
        at = f"{place}/{number}"
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            found.append(Fault("TL005", at, "a call needs a function with a name"))
            continue
        within = f"{at}/function" if "function" in call else at
        arguments, fault = _arguments(function.get("arguments", {}))
        if fault:
            found.append(Fault("TL009", f"{within}/arguments", fault, shown(function["arguments"])))
            continue
        made.append({"name": function["name"], "arguments": arguments})
        found += called(function["name"], f"{within}/name", given)
    try:
        json_text(made, "")
    except RowFault as fault:
        found.append(Fault("TL009", place, fault.reason))
    return found


def _arguments(given: Any) -> tuple[Any, str]:
    """The value of a call's arguments, given as JSON text (as on the wire) or as the object itself; and what is wrong."""
    if given is None or isinstance(given, dict):
        return given, ""
    if not isinstance(given, str):
        return given, f"JSON text or an object belongs here, not {kind_of(given)}"
    try:
        return json_value(given or "{}", ""), ""
    except RowFault as fault:
        return given, f"the arguments are {fault.reason}"


def unasked_results(turns: Sequence[Any], column: str, role_tag: str, result_tag: str) -> list[Fault]:
    """The faults of tool results whose ``tool_call_id`` no call before them has."""
    found = []
    asked: set[str] = set()
    for number, turn in enumerate(turns):
        if not isinstance(turn, dict):
            continue
        calls = turn.get("tool_calls")
        if isinstance(calls, list):
            asked |= {call["id"] for call in calls if isinstance(call, dict) and isinstance(call.get("id"), str)}
        name = turn.get("tool_call_id")
        if turn.get(role_tag) == result_tag and isinstance(name, str) and name not in asked:
            place = pointer(column, number, "tool_call_id")
            found.append(Fault("TL010", place, f'no call before it has the id "{name}"', name))
    return found
