"""LFM2's calls: a list of Python calls with keyword arguments."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Any

from registry.tools.calls import Call, Tool, ToolFormat, ToolRules, bare, dumps, items_of, json_at

_OPENING, _CLOSING = "<|tool_call_start|>", "<|tool_call_end|>"
_NAME = re.compile(r"\s*([^\s()\[\],=]+)\(\s*")
_KEY = re.compile(r"\s*([^\s()\[\],=]+)\s*=")
_NAMED = {"true": True, "false": False, "null": None}


def prompt(tools: Sequence[Tool], rules: ToolRules) -> str:
    return f"List of tools: <|tool_list_start|>{dumps([bare(tool) for tool in tools])}<|tool_list_end|>"


def calls(calls: Sequence[Call], rules: ToolRules) -> str:
    return f"{_OPENING}[{', '.join(_spelled(call, rules) for call in calls)}]{_CLOSING}"


def _spelled(call: Call, rules: ToolRules) -> str:
    """LLaMA-Factory puts quotes around text without escaping those inside."""
    values = [
        f'{key}="{value}"' if rules.strict and isinstance(value, str) else f"{key}={dumps(value)}"
        for key, value in items_of(call)
    ]
    return f"{call.name}({', '.join(values)})"


def parse(text: str, tools: Sequence[Tool] = ()) -> list[Call] | None:
    """Values are JSON as ``calls`` writes it, or else Python's own literals, which the model was taught first."""
    start = text.find(_OPENING)
    if start < 0:
        return None
    start += len(_OPENING)
    try:
        return _read_json(text, start)
    except ValueError:
        end = text.find(_CLOSING, start)
        return _read_python(text[start:end].strip()) if end >= 0 else None


def _read_json(text: str, at: int) -> list[Call] | None:
    """Raises ``ValueError`` where the calls are not written so."""
    at = _after(text, at, "[")
    found: list[Call] = []
    while True:
        name = _NAME.match(text, at)
        if name is None:
            raise ValueError("no call begins here")
        at, arguments = name.end(), {}
        while not text.startswith(")", at):
            key = _KEY.match(text, at)
            if key is None:
                raise ValueError("no argument begins here")
            arguments[key[1]], at = json_at(text, key.end())
            at = _after(text, at, ",") if text[at:].lstrip().startswith(",") else at
        found.append(Call(name[1], arguments))
        at += 1
        if not text[at:].lstrip().startswith(","):
            break
        at = _after(text, at, ",")
    _after(text, _after(text, at, "]"), _CLOSING)
    return found


def _after(text: str, at: int, word: str) -> int:
    """Where ``word`` ends, which must come next after blanks."""
    begin = len(text) - len(text[at:].lstrip())
    if not text.startswith(word, begin):
        raise ValueError(f"{word} is missing")
    return begin + len(word)


def _read_python(text: str) -> list[Call] | None:
    try:
        body = ast.parse(text, mode="eval").body
        nodes = body.elts if isinstance(body, ast.List) else [body]
        return [_call(node) for node in nodes] or None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _call(node: ast.expr) -> Call:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.args:
        raise ValueError("not a call with keyword arguments")
    return Call(node.func.id, {str(word.arg): _value(word.value) for word in node.keywords})


def _value(node: ast.expr) -> Any:
    """A literal, with JSON's names for true, false and null at any depth; nothing is ever run."""
    if isinstance(node, ast.Name) and node.id in _NAMED:
        return _NAMED[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(element) for element in node.elts]
    if isinstance(node, ast.Dict):
        return {_value(k): _value(v) for k, v in zip(node.keys, node.values, strict=True) if k is not None}
    return ast.literal_eval(node)


FORMAT = ToolFormat(prompt, calls, parse)
