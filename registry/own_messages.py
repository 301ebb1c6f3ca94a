"""Records to the messages that chat templates in Jinja read: roles, tool calls and tool results in OpenAI's form."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from registry.errors import RowFault
from registry.records import Message
from registry.tools.calls import ToolFault, wrapped
from registry.tools.read import read_calls, read_tools

# Around thoughts and calls in a row's text; a Jinja template does not tell which words it knows.
THOUGHT_WORDS, CALL_WORDS = ("<think>", "</think>"), ("<tool_call>", "</tool_call>")

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the user's side says (a question, or the results of tools), and what the model answers."""

    asked: tuple[dict[str, Any], ...]
    answer: dict[str, Any]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as a template gets it: system message (or none), exchanges, tools (or none)."""

    opening: tuple[dict[str, Any], ...]
    exchanges: tuple[Exchange, ...]
    tools: list[dict[str, Any]] | None = None

    def until(self, number: int, *, answered: bool) -> list[dict[str, Any]]:
        """The messages up to exchange ``number``, with its answer or without."""
        messages = list(self.opening)
        for exchange in self.exchanges[:number]:
            messages += [*exchange.asked, exchange.answer]
        messages += self.exchanges[number].asked
        return [*messages, self.exchanges[number].answer] if answered else messages

    def with_probes(self, probe: str) -> Conversation:
        """The same with ``probe`` and a number in place of each answer's text: nothing in it can be rewritten."""
        exchanges = []
        for number, exchange in enumerate(self.exchanges):
            text = "" if "tool_calls" in exchange.answer else f"{probe}{number}{probe}"
            exchanges.append(replace(exchange, answer=exchange.answer | {"content": text}))
        return replace(self, exchanges=tuple(exchanges))


def read_conversation(messages: Sequence[Message], system: str, tools: str) -> Conversation:
    """A record's parts as messages. Raises ``RowFault`` for tools and calls that do not parse."""
    opening = ({"role": "system", "content": system},) if system else ()
    exchanges: list[Exchange] = []
    calls: list[dict[str, Any]] = []
    for i in range(0, len(messages) - 1, 2):
        said, answer = messages[i], messages[i + 1]
        asked = _results(said.content, calls) if said.role == "observation" else [_message("user", said.content)]
        calls = []
        spelled = _message("assistant", answer.content)
        if answer.role == "function":
            text, calls = _calls(answer.content, i + 1)
            spelled |= {"content": text, "tool_calls": calls}
        exchanges.append(Exchange(tuple(asked), spelled, answer.weight))
    return Conversation(opening, tuple(exchanges), _tools(tools))


def _tools(text: str) -> list[dict[str, Any]] | None:
    try:
        return [dict(wrapped(tool)) for tool in read_tools(text)] or None
    except ToolFault as fault:
        raise RowFault("tools", str(fault)) from None


def _calls(content: str, number: int) -> tuple[str, list[dict[str, Any]]]:
    """What stands before the calls of a ``function`` turn, and the calls with their arguments as objects."""
    try:
        before, calls = read_calls(content, THOUGHT_WORDS, CALL_WORDS, strict=False)
    except ToolFault as fault:
        raise RowFault(f"messages[{number}]", str(fault)) from None
    return before, [_call(call.name, call.arguments, f"{number:05d}{n:04d}") for n, call in enumerate(calls)]


def _call(name: str, arguments: Any, number: str) -> dict[str, Any]:
    # The number has nine digits: Mistral's templates refuse any other id.
    return {"type": "function", "id": number, "function": {"name": name, "arguments": arguments}}


def _message(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def _results(content: str, calls: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One message for each result: several calls at once have theirs in one turn, as a JSON list of texts."""
    contents = [content]
    if len(calls) > 1:
        try:
            found = json.loads(content)
        except json.JSONDecodeError:
            found = None
        if isinstance(found, list) and len(found) == len(calls) and all(isinstance(text, str) for text in found):
            contents = found
    named = [{"tool_call_id": call["id"], "name": call["function"]["name"]} for call in calls]
    return [_message("tool", text) | (named[n] if n < len(named) else {}) for n, text in enumerate(contents)]


def is_told(content: str, text: str) -> bool:
    """Whether ``text`` holds the last word of ``content``: templates trim, escape and shorten, but end alike."""
    last = content[-200:].split()[-1:]
    words = _WORD.findall(last[0]) or last if last else []
    return not words or words[-1] in text or not words[-1].isprintable()
