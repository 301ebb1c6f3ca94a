"""GLM-4.5's calls: the name inside a tool_call tag, then pairs of arg_key and arg_value tags."""

from __future__ import annotations

import re
from collections.abc import Sequence

from registry.tools import qwen
from registry.tools.calls import Call, Tool, ToolFormat, ToolRules, as_text, items_of, tagged

_CALL = re.compile(r"<tool_call>\s*([^\s<>]+)(.*?)</tool_call>(?=\s*(?:<tool_call>|\Z))", re.DOTALL)
_ARGUMENT = re.compile(r"<arg_key>([^<\n]*)</arg_key>\s*<arg_value>(.*?)</arg_value>(?=\s*(?:<arg_key>|\Z))", re.DOTALL)


def prompt(tools: Sequence[Tool], rules: ToolRules) -> str:
    return (
        f"\n\n{qwen.HEAD}{qwen.listed(tools)}\n</tools>\n\n"
        "For each function call, output the function name and arguments within the following XML format:\n"
        "<tool_call>{function-name}\n<arg_key>{arg-key-1}</arg_key>\n<arg_value>{arg-value-1}</arg_value>\n"
        "<arg_key>{arg-key-2}</arg_key>\n<arg_value>{arg-value-2}</arg_value>\n...\n</tool_call>\n"
    )


def calls(calls: Sequence[Call], rules: ToolRules) -> str:
    """LLaMA-Factory never closes the tag that its own prompt closes."""
    closing = "" if rules.strict else "\n</tool_call>"
    return "\n".join(f"\n<tool_call>{call.name}{_arguments(call)}{closing}" for call in calls)


def _arguments(call: Call) -> str:
    return "".join(
        f"\n<arg_key>{key}</arg_key>\n<arg_value>{as_text(value)}</arg_value>" for key, value in items_of(call)
    )


def parse(text: str, tools: Sequence[Tool] = ()) -> list[Call] | None:
    return [Call(name, tagged(body, _ARGUMENT, name, tools)) for name, body in _CALL.findall(text)] or None


FORMAT = ToolFormat(prompt, calls, parse)
