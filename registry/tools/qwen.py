"""Qwen's calls: a JSON object with name and arguments between tool_call tags."""

from __future__ import annotations

from collections.abc import Sequence

from registry.tools.calls import Call, Tool, ToolFormat, ToolRules, dumps, json_between, wrapped

HEAD = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
TAIL = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
    "</tool_call>"
)


def listed(tools: Sequence[Tool]) -> str:
    """One tool a line, each after a line break."""
    return "".join(f"\n{dumps(wrapped(tool))}" for tool in tools)


def prompt(tools: Sequence[Tool], rules: ToolRules) -> str:
    return f"\n\n{HEAD}{listed(tools)}{TAIL}"


def calls(calls: Sequence[Call], rules: ToolRules) -> str:
    objects = [dumps({"name": call.name, "arguments": call.arguments}) for call in calls]
    return "\n".join(f"<tool_call>\n{text}\n</tool_call>" for text in objects)


def parse(text: str, tools: Sequence[Tool] = ()) -> list[Call] | None:
    return json_between(text, "<tool_call>", "</tool_call>")


FORMAT = ToolFormat(prompt, calls, parse)
