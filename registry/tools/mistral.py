"""Mistral's calls: a JSON list of objects with name and arguments; the template writes [TOOL_CALLS] before it."""

from __future__ import annotations

from collections.abc import Sequence

from registry.tools.calls import Call, Tool, ToolFormat, ToolRules, calls_in, dumps, loads, wrapped


def prompt(tools: Sequence[Tool], rules: ToolRules) -> str:
    return f"[AVAILABLE_TOOLS] {dumps([wrapped(tool) for tool in tools])}[/AVAILABLE_TOOLS]"


def calls(calls: Sequence[Call], rules: ToolRules) -> str:
    return dumps([{"name": call.name, "arguments": call.arguments} for call in calls])


def parse(text: str, tools: Sequence[Tool] = ()) -> list[Call] | None:
    try:
        return calls_in(loads(text), "arguments")
    except ValueError:
        return None


FORMAT = ToolFormat(prompt, calls, parse)
