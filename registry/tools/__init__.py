"""Tool-call syntaxes, one a file: how a model is told of its tools, how it calls them, and how its calls are read."""

from __future__ import annotations

from registry.errors import UsageError, did_you_mean
from registry.tools import (
    default,
    gemma4,
    glm4,
    glm4_moe,
    lfm2,
    ling,
    llama3,
    minimax1,
    minimax2,
    mistral,
    qwen,
    qwen3_5,
    seed_oss,
)
from registry.tools.calls import ToolFormat

TOOL_FORMATS: dict[str, ToolFormat] = {
    "default": default.FORMAT,  # Action: name, Action Input: JSON
    "gemma4": gemma4.FORMAT,  # call:name{key:value}
    "glm4": glm4.FORMAT,  # name, line break, JSON
    "glm4_moe": glm4_moe.FORMAT,  # <tool_call>name with arg_key and arg_value
    "lfm2": lfm2.FORMAT,  # [name(key="value")]
    "ling": ling.FORMAT,  # as qwen
    "llama3": llama3.FORMAT,  # JSON of name and parameters
    "minimax1": minimax1.FORMAT,  # <tool_calls> with JSON lines
    "minimax2": minimax2.FORMAT,  # <invoke name="…"> with parameters
    "mistral": mistral.FORMAT,  # JSON list of name and arguments
    "qwen": qwen.FORMAT,  # <tool_call> with JSON
    "qwen3_5": qwen3_5.FORMAT,  # <function=name> with parameters
    "seed_oss": seed_oss.FORMAT,  # <seed:tool_call> with function and parameters
}


def tool_format_named(name: str) -> ToolFormat:
    """The syntax called ``name``. Raises ``UsageError`` with the nearest name."""
    if name not in TOOL_FORMATS:
        known = ", ".join(TOOL_FORMATS)
        raise UsageError(
            f'unknown tool format "{name}"', mend=f"{did_you_mean(name, TOOL_FORMATS)} Known: {known}".strip()
        )
    return TOOL_FORMATS[name]
