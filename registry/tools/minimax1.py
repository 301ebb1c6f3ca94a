"""MiniMax-M1's calls: one JSON object a line, all between tool_calls tags."""

from __future__ import annotations

from collections.abc import Sequence

from registry.tools.calls import Call, Tool, ToolFormat, ToolRules, bare, calls_in, dumps, json_at

_OPENING, _CLOSING = "<tool_calls>", "</tool_calls>"


def prompt(tools: Sequence[Tool], rules: ToolRules) -> str:
    listed = "".join(f"{dumps(bare(tool))}\n" for tool in tools)
    return (
        f"You are provided with these tools:\n<tools>\n{listed}</tools>\n\n"
        "If you need to call tools, please respond with <tool_calls></tool_calls> XML tags, and provide tool-name and "
        "json-object of arguments, following the format below:\n<tool_calls>\n"
        '{"name": <tool-name-1>, "arguments": <args-json-object-1>}\n...\n</tool_calls>'
    )


def calls(calls: Sequence[Call], rules: ToolRules) -> str:
    objects = [dumps({"name": call.name, "arguments": call.arguments}) for call in calls]
    return "\n".join((_OPENING, *objects, _CLOSING))


def parse(text: str, tools: Sequence[Tool] = ()) -> list[Call] | None:
    at = text.find(_OPENING)
    if at < 0:
        return None
    at += len(_OPENING)
    found: list[Call] = []
    while not text[at:].lstrip().startswith(_CLOSING):
        try:
            value, at = json_at(text, at)
        except ValueError:
            return None
        call = calls_in(value, "arguments")
        if call is None:
            return None
        found += call
    return found or None


FORMAT = ToolFormat(prompt, calls, parse)
