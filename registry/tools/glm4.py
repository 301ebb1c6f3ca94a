"""GLM-4's calls: the name of one function, a line break, its arguments as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from registry.tools.calls import Call, Tool, ToolFault, ToolFormat, ToolRules, bare, dumps, loads, name_of


def prompt(tools: Sequence[Tool], rules: ToolRules) -> str:
    listed = "".join(
        f"\n\n## {name_of(tool)}\n\n{dumps(tool, indent=4)}\n在调用上述函数时，请使用 Json 格式表示调用的参数。"
        for tool in map(bare, tools)
    )
    return (
        "你是一个名为 ChatGLM 的人工智能助手。你是基于智谱 AI 公司训练的语言模型 GLM-4 模型开发的，"
        f"你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n# 可用工具{listed}"
    )


def calls(calls: Sequence[Call], rules: ToolRules) -> str:
    if len(calls) != 1:
        raise ToolFault(f"GLM-4 calls one function at a time; this turn calls {len(calls)}")
    return f"{calls[0].name}\n{dumps(calls[0].arguments)}"


def parse(text: str, tools: Sequence[Tool] = ()) -> list[Call] | None:
    name, _, rest = text.partition("\n")
    try:
        arguments = loads(rest)
    except ValueError:
        return None
    return [Call(name, arguments)] if isinstance(arguments, dict) else None


FORMAT = ToolFormat(prompt, calls, parse)
