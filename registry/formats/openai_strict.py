"""The openai format as LLaMA-Factory 0.9.5 reads it, with what it adds and loses (`compat: strict` alone)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from registry.datasets import Layout, Tags
from registry.errors import RowFault
from registry.formats import sharegpt
from registry.formats.fields import json_text, kind_of, required
from registry.records import Record, TextRecord

THINKING_OFF = "detailed thinking off"  # a convention of one model family, written into every model's system text
_JOINT = "\n</tool_response>\n<tool_response>\n"  # between the results of several calls, whatever the template


def to_record_strict(row: Mapping[str, Any], layout: Layout) -> Record:
    """One row as a record, by LLaMA-Factory's rules where these differ from ``openai.to_record``:

    - A row without tools gets "detailed thinking off" as its system text, or after it, unless that says on or off;
      one with both gets a line break between the two.
    - Arguments given as JSON text stay text, so that they are encoded twice.
    - Neighbouring tool results are joined as Qwen's tags would have it; results at the very end are lost.

    Raises ``RowFault`` with the message's number.
    """
    columns, name = layout.columns, str(layout.columns.messages)
    raw = required(row, name, list, "a list of messages")
    turns, numbers = _aligned(raw, layout.tags, name)
    plain: dict[str, Any] = {name: turns}
    tools = row.get(columns.tools) if columns.tools else None
    if isinstance(tools, list | dict):
        plain[str(columns.tools)] = json.dumps(tools, ensure_ascii=False)
    try:
        record = sharegpt.to_record({**row, **plain}, layout)
    except RowFault as fault:
        place = re.compile(rf"(?<={re.escape(name)}\[)\d+(?=\])")
        raise RowFault(place.sub(lambda m: str(numbers[int(m[0])]), fault.field), fault.reason) from None
    assert not isinstance(record, TextRecord)  # a list of messages is a conversation
    return replace(record, system=_with_words(record.system, record.tools))


def _with_words(system: str, tools: str) -> str:
    if tools:
        return f"{system}\n" if system else ""
    if "detailed thinking on" in system or THINKING_OFF in system:
        return system
    return f"{system}\n{THINKING_OFF}" if system else THINKING_OFF


def _aligned(raw: Sequence[Any], tags: Tags, name: str) -> tuple[list[Any], list[int]]:
    """The messages with tool calls as function turns and neighbouring tool results as one, and the number that each
    had in the row."""
    role, content = str(tags.role_tag), str(tags.content_tag)
    turns: list[Any] = []
    numbers: list[int] = []
    results: list[str] = []
    for number, turn in enumerate(raw):
        if isinstance(turn, dict) and tags.observation_tag and turn.get(role) == tags.observation_tag:
            results.append(required(turn, content, str, "text"))
            continue
        if results:
            turns.append({role: tags.observation_tag, content: _JOINT.join(results)})
            numbers.append(number - 1)
            results = []
        turns.append(_with_calls(turn, tags, f"{name}[{number}]"))
        numbers.append(number)
    return turns, numbers


def _with_calls(turn: Any, tags: Tags, at: str) -> Any:
    """A message of the model with ``tool_calls`` as a function turn: the list of their ``function`` objects as JSON."""
    if not isinstance(turn, dict) or not turn.get("tool_calls"):
        return turn
    if turn.get(str(tags.role_tag)) not in (tags.assistant_tag, tags.function_tag):
        return turn
    if tags.function_tag is None:
        raise RowFault(at, "the message calls a tool, but the dataset's tags list no function_tag")
    calls = turn["tool_calls"]
    if not isinstance(calls, list):
        raise RowFault(f"{at}.tool_calls", f"a list of calls belongs here, not {kind_of(calls)}")
    for number, call in enumerate(calls):
        if not isinstance(call, dict) or "function" not in call:
            raise RowFault(f"{at}.tool_calls[{number}]", 'a call needs a "function"')
    content = json_text([call["function"] for call in calls], f"{at}.tool_calls")
    return {**turn, str(tags.role_tag): tags.function_tag, str(tags.content_tag): content}
