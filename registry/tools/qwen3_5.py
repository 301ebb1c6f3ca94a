"""Qwen 3.5's calls: a tag for the function and one for each parameter, values on lines of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence

from registry.tools.calls import Call, Tool, ToolFormat, ToolRules, as_text, bare, dumps, items_of, tagged

_CALL = re.compile(r"<tool_call>\s*<function=\s*([^\s<>]+)\s*>(.*?)</function>\s*</tool_call>", re.DOTALL)
# One line break at each end of a value is the tag's; the next tag after its end tells it from one inside the value.
_PARAMETER = re.compile(r"<parameter=([^>\n]*)>\n?(.*?)\n?</parameter>(?=\s*(?:<parameter=|\Z))", re.DOTALL)


def prompt(tools: Sequence[Tool], rules: ToolRules) -> str:
    listed = "".join(f"\n{dumps(bare(tool))}" for tool in tools)
    return (
        f"\n\n# Tools\n\nYou have access to the following functions:\n\n<tools>{listed}\n</tools>\n\n"
        "If you choose to call a function ONLY reply in the following format with NO suffix:\n\n"
        "<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n</parameter>\n"
        "<parameter=example_parameter_2>\nThis is the value for the second parameter\nthat can span\nmultiple lines\n"
        "</parameter>\n</function>\n</tool_call>\n\n<IMPORTANT>\nReminder:\n"
        "- Function calls MUST follow the specified format: an inner <function=...></function> block must be nested "
        "within <tool_call></tool_call> XML tags\n- Required parameters MUST be specified\n"
        "- You may provide optional reasoning for your function call in natural language BEFORE the function call, "
        "but NOT after\n- If there is no function call available, answer the question like normal with your current "
        "knowledge and do not tell the user about function calls\n</IMPORTANT>"
    )


def calls(calls: Sequence[Call], rules: ToolRules) -> str:
    return "\n".join(_spelled(call) for call in calls)


def _spelled(call: Call) -> str:
    parameters = "".join(f"\n<parameter={key}>\n{as_text(value)}\n</parameter>" for key, value in items_of(call))
    return f"<tool_call>\n<function={call.name}>{parameters}\n</function>\n</tool_call>"


def parse(text: str, tools: Sequence[Tool] = ()) -> list[Call] | None:
    return [Call(name, tagged(body, _PARAMETER, name, tools)) for name, body in _CALL.findall(text)] or None


FORMAT = ToolFormat(prompt, calls, parse)
