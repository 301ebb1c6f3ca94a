"""Rows' tools and calls, JSON in a message's text, read into values; what is wrong with them is told."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

from registry.tools.calls import Call, Tool, ToolFault

# What people write for "arguments" by mistake, most often after another syntax.
_MISNAMED = ("parameters", "args", "input", "kwargs")


def read_tools(text: str) -> list[Tool]:
    """The tools that a row's JSON text lists; none for an empty text. Raises ``ToolFault``."""
    if not text:
        return []
    tools = _json(text)
    if not isinstance(tools, list):
        raise ToolFault(f"a JSON list of tools belongs here, not {_kind(tools)}")
    for number, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise ToolFault(f"tool {number} must be an object, not {_kind(tool)}")
        _check_schema(number, tool)
    return tools


def _check_schema(number: int, tool: Tool) -> None:
    """Raise ``ToolFault`` for lists of a JSON schema that are none: some syntaxes go through them name by name."""
    inner = tool.get("function")
    parameters = (inner if isinstance(inner, dict) else tool).get("parameters")
    if not isinstance(parameters, dict):
        return
    if not isinstance(parameters.get("required") or [], list):
        raise ToolFault(f'"required" of tool {number} must be a list of names, not {_kind(parameters["required"])}')
    properties = parameters.get("properties")
    for name, schema in properties.items() if isinstance(properties, dict) else ():
        if isinstance(schema, dict) and not isinstance(schema.get("enum") or [], list):
            raise ToolFault(f'"enum" of "{name}" of tool {number} must be a list, not {_kind(schema["enum"])}')


def read_calls(
    content: str, thought_words: tuple[str, str] | None, call_words: tuple[str, str] | None, *, strict: bool
) -> tuple[str, list[Call]]:
    """A function turn as the text that stays in front of its calls, and the calls (as LLaMA-Factory 0.9.5).

    Calls stand between ``call_words``, or else are all that is left without a thought: one JSON object with name and
    arguments, or a list of them. ``strict`` reads only the first pair of words, leaves what is around it in front, and
    takes arguments that are JSON text already as mere text. Raises ``ToolFault``.
    """
    blocks = list(_between(*call_words).finditer(content)) if call_words else []
    if blocks and strict:
        before, texts = content.replace(blocks[0][0], ""), [blocks[0][1]]
    elif blocks:
        before, texts = content[: blocks[0].start()], [block[1] for block in blocks]
        if rest := _between_blocks(content, blocks).strip():
            raise ToolFault(f"there is text after the first call, which no syntax has a place for: {rest[:60]!r}")
    else:
        thought = _between(*thought_words).search(content) if thought_words else None
        before = thought[0] if thought else ""
        texts = [content.replace(before, "") if thought else content]
    return before, [call for text in texts for call in _calls(text, strict)]


def _between_blocks(content: str, blocks: list[re.Match[str]]) -> str:
    ends = [block.end() for block in blocks]
    starts = [block.start() for block in blocks[1:]] + [len(content)]
    return "".join(content[end:start] for end, start in zip(ends, starts, strict=True))


@lru_cache
def _between(first: str, second: str) -> re.Pattern[str]:
    return re.compile(f"{re.escape(first)}(.*?){re.escape(second)}", re.DOTALL)


def _calls(text: str, strict: bool) -> list[Call]:
    value = _json(text)
    objects = value if isinstance(value, list) else [value]
    if not objects and not strict:
        raise ToolFault("the list of function calls is empty")
    return [_call(each, strict) for each in objects]


def _call(value: Any, strict: bool) -> Call:
    if not isinstance(value, dict):
        raise ToolFault(f"a function call must be an object, not {_kind(value)}")
    name = value.get("name")
    if not isinstance(name, str) or not name:
        raise ToolFault("a function call needs a name")
    if "arguments" not in value:
        other = next((word for word in _MISNAMED if word in value), None)
        hint = f'; "{other}" must be called so' if other else ""
        raise ToolFault(f'the call of "{name}" has no "arguments"{hint}')
    arguments = value["arguments"]
    if isinstance(arguments, str) and not strict:  # JSON text already, as the OpenAI wire format has it
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            raise ToolFault(f'the arguments of "{name}" are no JSON: {arguments[:60]!r}') from None
    return Call(name, arguments)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ToolFault(
            f"not JSON: {error.msg} at character {error.pos}: {text[error.pos : error.pos + 40]!r}"
        ) from None
    except RecursionError:
        raise ToolFault("JSON that is nested too deeply") from None


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
