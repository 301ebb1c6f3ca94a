"""Gemma 4's calls: name and braces with bare keys in order, text between string marks of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from registry.tools.calls import Call, Tool, ToolFault, ToolFormat, ToolRules, bare, dumps, name_of

_MARK = '<|"|>'
_OPENING, _CLOSING = "<|tool_call>call:", "<tool_call|>"
_NAME = re.compile(r"([^{\s]+)\{")
_KEY = re.compile(r"([^:{}\[\],]*):")
_ATOM = re.compile(r"[^,{}\[\]<]+")


def prompt(tools: Sequence[Tool], rules: ToolRules) -> str:
    return "\n".join(_declared(bare(tool)) for tool in tools)


def _declared(tool: Tool) -> str:
    parts = [f"description:{_text(tool.get('description', ''))}"]
    if parameters := _schema(tool.get("parameters")):
        properties = _schema(parameters.get("properties"))
        listed = [f"{name}:{{{','.join(_told(_schema(each)))}}}" for name, each in properties.items()]
        inner = [f"properties:{{{','.join(listed)}}}"] if listed else []
        if required := parameters.get("required"):
            inner.append(f"required:[{','.join(_text(name) for name in required)}]")
        inner += _told({"type": parameters.get("type")})
        parts.append(f"parameters:{{{','.join(inner)}}}")
    if response := _schema(tool.get("response")):
        is_object = str(response.get("type", "")).upper() == "OBJECT"
        told = _told({"description": response.get("description"), "type": "OBJECT" if is_object else None})
        parts.append(f"response:{{{','.join(told)}}}")
    return f"declaration:{name_of(tool)}{{{','.join(parts)}}}"


def _schema(value: Any) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise ToolFault("a tool's parameters and their properties must be schemas")
    return value or {}


def _told(schema: Mapping[str, Any]) -> list[str]:
    """Description and type, as far as they are there."""
    description, kind = schema.get("description"), schema.get("type")
    return ([f"description:{_text(description)}"] if description else []) + (
        [f"type:{_text(str(kind).upper())}"] if kind else []
    )


def _text(value: Any) -> str:
    return f"{_MARK}{value}{_MARK}"


def calls(calls: Sequence[Call], rules: ToolRules) -> str:
    return "".join(f"{_OPENING}{call.name}{_arguments(call.arguments)}{_CLOSING}" for call in calls)


def _arguments(arguments: Any) -> str:
    if isinstance(arguments, Mapping):
        return _value(arguments)
    return f"{{{arguments if isinstance(arguments, str) else _value(arguments)}}}"


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_value(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_value, value)) + "]"
    return dumps(value)


def parse(text: str, tools: Sequence[Tool] = ()) -> list[Call] | None:
    found: list[Call] = []
    at = 0
    while (at := text.find(_OPENING, at)) >= 0:
        name = _NAME.match(text, at + len(_OPENING))
        if name is None:
            return None
        try:
            arguments, at = _read(text, name.end() - 1)
        except (ValueError, RecursionError):
            return None
        if not text.startswith(_CLOSING, at):
            return None
        found.append(Call(name[1], arguments))
    return found or None


def _read(text: str, at: int) -> tuple[Any, int]:
    """The value that begins at ``at``, and where it ends. Raises ``ValueError``."""
    if text.startswith(_MARK, at):
        end = text.index(_MARK, at + len(_MARK))
        return text[at + len(_MARK) : end], end + len(_MARK)
    if text.startswith("{", at):
        return _read_object(text, at + 1)
    if text.startswith("[", at):
        return _read_list(text, at + 1)
    atom = _ATOM.match(text, at)
    if atom is None:
        raise ValueError("no value begins here")
    named = {"true": True, "false": False, "null": None}
    word = atom[0].strip()
    if word in named:
        return named[word], atom.end()
    return int(word) if re.fullmatch(r"-?\d+", word) else float(word), atom.end()


def _read_object(text: str, at: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while not text.startswith("}", at):
        key = _KEY.match(text, at)
        if key is None:
            raise ValueError("no key begins here")
        found[key[1].strip().removeprefix(_MARK).removesuffix(_MARK)], at = _read(text, key.end())
        at = _past_comma(text, at, "}")
    return found, at + 1


def _read_list(text: str, at: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    while not text.startswith("]", at):
        value, at = _read(text, at)
        found.append(value)
        at = _past_comma(text, at, "]")
    return found, at + 1


def _past_comma(text: str, at: int, closing: str) -> int:
    if text.startswith(",", at):
        return at + 1
    if not text.startswith(closing, at):
        raise ValueError(f"a comma or {closing} is missing")
    return at


FORMAT = ToolFormat(prompt, calls, parse)
