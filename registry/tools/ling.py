"""Ling 2's calls: Qwen's, with a prompt that also switches thinking off."""

from __future__ import annotations

from collections.abc import Sequence

from registry.tools import qwen
from registry.tools.calls import Tool, ToolFormat, ToolRules


def prompt(tools: Sequence[Tool], rules: ToolRules) -> str:
    return f"{qwen.HEAD}{qwen.listed(tools)}{qwen.TAIL}\ndetailed thinking off"


FORMAT = ToolFormat(prompt, qwen.calls, qwen.parse)
