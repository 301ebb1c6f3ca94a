"""Seed-OSS's calls: a tag for the function and one for each parameter, inside seed:tool_call tags."""

from __future__ import annotations

import re
from collections.abc import Sequence

from registry.tools.calls import Call, Tool, ToolFormat, ToolRules, as_text, dumps, items_of, tagged

# The function's tag may lack its ">": models trained on LLaMA-Factory's rows write it so.
_CALL = re.compile(r"<seed:tool_call>\s*<function=\s*([^\s<>]+)>?(.*?)</function>\s*</seed:tool_call>", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>\n]*)>(.*?)</parameter>(?=\s*(?:<parameter=|\Z))", re.DOTALL)


def prompt(tools: Sequence[Tool], rules: ToolRules) -> str:
    return (
        "system\nYou are Doubao, a helpful AI assistant. You may call one or more functions to assist with the user "
        "query.Tool List:\nYou are authorized to use the following tools (described in JSON Schema format). Before "
        "performing any task, you must decide how to call them based on the descriptions and parameters of these "
        f"tools.\n{dumps(list(tools))}\n工具调用请遵循如下格式:\n<seed:tool_call>\n<function=example_function_name>\n"
        "<parameter=example_parameter_1>value_1</parameter>\n<parameter=example_parameter_2>This is the value for the "
        "second parameter\nthat can span\nmultiple lines</parameter>\n</function>\n</seed:tool_call>\n"
    )


def calls(calls: Sequence[Call], rules: ToolRules) -> str:
    """LLaMA-Factory leaves the function's tag open."""
    end = "" if rules.strict else ">"
    return "\n".join(
        f"\n<seed:tool_call>\n<function={call.name}{end}{_parameters(call)}\n</function>\n</seed:tool_call>"
        for call in calls
    )


def _parameters(call: Call) -> str:
    return "".join(f"\n<parameter={key}>{as_text(value)}</parameter>" for key, value in items_of(call))


def parse(text: str, tools: Sequence[Tool] = ()) -> list[Call] | None:
    return [Call(name, tagged(body, _PARAMETER, name, tools)) for name, body in _CALL.findall(text)] or None


FORMAT = ToolFormat(prompt, calls, parse)
