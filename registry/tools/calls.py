"""What all tool-call syntaxes share: a call, a syntax as three functions, and JSON as LLaMA-Factory 0.9.5 writes it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Tool = Mapping[str, Any]  # name, description, parameters (JSON schema); or the same inside {"type": "function", …}

_DECODER = json.JSONDecoder(parse_constant=lambda name: _refuse(name))
_SPACE = " \t\n\r"  # what JSON counts as blank


class ToolFault(ValueError):
    """Why tools or calls cannot be written in a syntax, in a short phrase."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a function; ``arguments`` is decoded JSON, an object by rights."""

    name: str
    arguments: Any


@dataclass(frozen=True, slots=True)
class ToolRules:
    """What a run may set: ``strict`` writes as LLaMA-Factory 0.9.5 does where that is plainly wrong; ``date`` is the
    day that llama3's prompt names, "" for none."""

    strict: bool = False
    date: str = ""


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """One syntax. ``prompt`` tells the model of its tools, in the system text; ``calls`` writes what the model says;
    ``parse`` reads that back, given the tools where known, and says None for a text without calls.

    ``prompt`` and ``calls`` raise ``ToolFault``.
    """

    prompt: Callable[[Sequence[Tool], ToolRules], str]
    calls: Callable[[Sequence[Call], ToolRules], str]
    parse: Callable[[str, Sequence[Tool]], list[Call] | None]


def dumps(value: Any, *, indent: int | None = None) -> str:
    """JSON text with characters as they are."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def bare(tool: Tool) -> Tool:
    """A tool without the ``{"type": "function"}`` around it."""
    inner = tool.get("function", tool) if tool.get("type") == "function" else tool
    if not isinstance(inner, Mapping):
        raise ToolFault('a tool\'s "function" must be an object')
    return inner


def wrapped(tool: Tool) -> Tool:
    """A tool with ``{"type": "function"}`` around it."""
    return tool if tool.get("type") == "function" else {"type": "function", "function": tool}


def name_of(tool: Tool) -> str:
    """The name of a bare tool. Raises ``ToolFault`` where it has none."""
    name = tool.get("name")
    if not isinstance(name, str):
        raise ToolFault("a tool has no name")
    return name


def items_of(call: Call) -> Iterable[tuple[str, Any]]:
    """A call's arguments one by one, for syntaxes that have a place for each. Raises ``ToolFault`` for no object."""
    if not isinstance(call.arguments, Mapping):
        raise ToolFault(f'the arguments of "{call.name}" must be an object')
    return call.arguments.items()


def as_text(value: Any) -> str:
    """An argument where a syntax has no quotes: text as it is, all else as JSON."""
    return value if isinstance(value, str) else dumps(value)


def from_text(text: str, name: str, key: str, tools: Sequence[Tool]) -> Any:
    """What ``as_text`` wrote: text where the tool says so or it is no JSON, else the JSON value.

    Without quotes a text like ``12`` cannot be told from the number, unless the tool's schema tells.
    """
    for tool in map(bare, tools):
        if tool.get("name") == name and _said(tool, key) == "string":
            return text
    try:
        return loads(text)
    except ValueError:
        return text


def _said(tool: Tool, key: str) -> Any:
    """The type that a bare tool gives one of its parameters."""
    found: Any = tool.get("parameters")
    for part in ("properties", key, "type"):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def loads(text: str) -> Any:
    """JSON text as a value. Raises ``ValueError``."""
    try:
        value, end = _DECODER.raw_decode(text := text.strip(_SPACE))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if end < len(text):
        raise ValueError("there is more than one value")
    return value


def json_at(text: str, start: int) -> tuple[Any, int]:
    """The JSON value that begins at ``start``, after blanks, and where it ends. Raises ``ValueError``."""
    begin = len(text) - len(text[start:].lstrip(_SPACE))
    try:
        return _DECODER.raw_decode(text, begin)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def calls_in(value: Any, key: str) -> list[Call] | None:
    """Calls given as one object or a list of objects with ``name`` and ``key``; None where it is something else."""
    objects = value if isinstance(value, list) else [value]
    if not objects or not all(isinstance(o, dict) and isinstance(o.get("name"), str) and key in o for o in objects):
        return None
    return [Call(o["name"], o[key]) for o in objects]


def json_between(text: str, opening: str, closing: str) -> list[Call] | None:
    """Calls as JSON objects, each between two words; read from the opening one on, so that arguments may hold either."""
    found: list[Call] = []
    at = 0
    while (at := text.find(opening, at)) >= 0:
        try:
            value, at = json_at(text, at + len(opening))
        except ValueError:
            return None
        call = calls_in(value, "arguments")
        if call is None or not text[at:].lstrip(_SPACE).startswith(closing):
            return None
        found += call
    return found or None


def tagged(text: str, pattern: re.Pattern[str], name: str, tools: Sequence[Tool]) -> dict[str, Any]:
    """Arguments that ``pattern`` finds as pairs of a key and its unquoted text."""
    return {key: from_text(value, name, key, tools) for key, value in pattern.findall(text)}


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
