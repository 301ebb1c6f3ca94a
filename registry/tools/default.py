"""Calls as "Action" and "Action Input" lines (ReAct, https://arxiv.org/abs/2210.03629), where a model has no syntax."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from registry.tools.calls import Call, Tool, ToolFault, ToolFormat, ToolRules, bare, dumps, json_at, name_of

_CALL = re.compile(r"Action:[ \t]*([^\n]+?)\s*\nAction Input:")


def prompt(tools: Sequence[Tool], rules: ToolRules) -> str:
    """All tools with their arguments as a list, then the two lines that call one."""
    known = [bare(tool) for tool in tools]
    listed = "".join(
        f"> Tool Name: {name_of(tool)}\nTool Description: {tool.get('description', '')}\n"
        f"Tool Args:\n{_arguments(tool)}\n"
        for tool in known
    )
    return (
        f"You have access to the following tools:\n{listed}Use the following format if using a tool:\n```\n"
        f"Action: tool name (one of [{', '.join(map(name_of, known))}])\n"
        "Action Input: the input to the tool, in a JSON format representing the kwargs "
        '(e.g. ```{"input": "hello world", "num_beams": 5}```)\n```\n'
    )


def _arguments(tool: Tool) -> str:
    parameters = tool.get("parameters") or {}
    properties = parameters.get("properties") or {} if isinstance(parameters, Mapping) else None
    if not isinstance(properties, Mapping):
        raise ToolFault(f'the parameters of "{name_of(tool)}" must be a JSON schema with properties')
    required = parameters.get("required") or []
    return "".join(f"  - {name} {_argument(schema, name in required)}\n" for name, schema in properties.items())


def _argument(schema: Any, required: bool) -> str:
    if not isinstance(schema, Mapping):
        raise ToolFault("each property of a tool's parameters must be a schema")
    choices, items = schema.get("enum"), schema.get("items")
    return (
        f"({schema.get('type', '')}{', required' if required else ''}): {schema.get('description', '')}"
        + (f", should be one of [{', '.join(map(str, choices))}]" if choices else "")
        + (f", where each item should be {items.get('type', '')}" if isinstance(items, Mapping) and items else "")
    )


def calls(calls: Sequence[Call], rules: ToolRules) -> str:
    return "\n".join(f"Action: {call.name}\nAction Input: {dumps(call.arguments)}" for call in calls)


def parse(text: str, tools: Sequence[Tool] = ()) -> list[Call] | None:
    found: list[Call] = []
    at = 0
    while match := _CALL.search(text, at):
        try:
            value, at = json_at(text.replace("```", "   "), match.end())  # some models put code fences around it
        except ValueError:
            return None
        found.append(Call(match[1], value))
    return found or None


FORMAT = ToolFormat(prompt, calls, parse)
