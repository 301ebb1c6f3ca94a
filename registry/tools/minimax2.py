"""MiniMax-M2's calls: invoke tags with a tag for each parameter, all in one block."""

from __future__ import annotations

import re
from collections.abc import Sequence

from registry.tools.calls import Call, Tool, ToolFormat, ToolRules, as_text, bare, dumps, items_of, tagged

_BLOCK = re.compile(r"<minimax:tool_call>(.*)</minimax:tool_call>", re.DOTALL)
_CALL = re.compile(r'<invoke name="([^"\n]*)">(.*?)</invoke>(?=\s*(?:<invoke name=|\Z))', re.DOTALL)
_PARAMETER = re.compile(r'<parameter name="([^"\n]*)">(.*?)</parameter>(?=\s*(?:<parameter name=|\Z))', re.DOTALL)


def prompt(tools: Sequence[Tool], rules: ToolRules) -> str:
    listed = "".join(f"<tool>{dumps(bare(tool))}</tool>\n" for tool in tools)
    return (
        "\n\n# Tools\n\nYou may call one or more tools to assist with the user query.\n"
        f"Here are the tools available in JSONSchema format:\n\n<tools>\n{listed}</tools>\n\n"
        "When making tool calls, use XML format to invoke tools and pass parameters:\n\n"
        '<minimax:tool_call>\n<invoke name="tool-name-1">\n<parameter name="param-key-1">param-value-1</parameter>\n'
        '<parameter name="param-key-2">param-value-2</parameter>\n...\n</invoke>\n</minimax:tool_call>'
    )


def calls(calls: Sequence[Call], rules: ToolRules) -> str:
    """LLaMA-Factory leaves out the block that its own prompt asks for."""
    invoked = "\n".join(_spelled(call) for call in calls)
    return invoked if rules.strict else f"<minimax:tool_call>\n{invoked}\n</minimax:tool_call>"


def _spelled(call: Call) -> str:
    parameters = "".join(f'\n<parameter name="{key}">{as_text(value)}</parameter>' for key, value in items_of(call))
    return f'<invoke name="{call.name}">{parameters}\n</invoke>'


def parse(text: str, tools: Sequence[Tool] = ()) -> list[Call] | None:
    block = _BLOCK.search(text)
    if block is None:
        return None
    return [Call(name, tagged(body, _PARAMETER, name, tools)) for name, body in _CALL.findall(block[1])] or None


FORMAT = ToolFormat(prompt, calls, parse)
