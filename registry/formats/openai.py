"""The openai format: a list of {role, content} messages, with tool calls as objects of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from registry.datasets import Layout, Tags
from registry.errors import RowFault
from registry.formats import sharegpt
from registry.formats.fields import json_text, json_value, kind_of, required
from registry.formats.weights import KEYS as WEIGHT_KEYS
from registry.formats.weights import weight_of
from registry.records import FeedbackRecord, Message, PreferenceRecord, Record, Role, TextRecord

NAMES: dict[Role, str] = {"user": "user", "assistant": "assistant", "observation": "tool", "function": "assistant"}


def to_record(row: Mapping[str, Any], layout: Layout) -> Record:
    """One row as a record: tool calls become function turns, tools given as objects their JSON text; the rest is as
    in sharegpt (a system message first, preference pairs, judged answers). The results of several calls of one
    message become one observation: the JSON text of a list of texts, in the order of the calls.

    Raises ``RowFault`` with the message's number.
    """
    columns, tags = layout.columns, layout.tags
    name = str(columns.messages)
    raw = required(row, name, list, "a list of messages")
    turns, numbers = _joined_results(raw, tags)
    if layout.weights and len(turns) < len(raw):  # those joined are seen no more
        for i, turn in enumerate(raw):
            if _is_result(turn, tags):
                weight_of(turn, f"{name}[{i}]", answers=False)
    plain: dict[str, Any] = {
        name: [_without_calls(turn, tags, f"{name}[{i}]") for i, turn in zip(numbers, turns, strict=True)]
    }
    for column in (columns.chosen, columns.rejected):
        if column is not None and column in row:
            plain[column] = _without_calls(row[column], tags, column)
    tools = row.get(columns.tools) if columns.tools else None
    if isinstance(tools, list | dict):
        plain[str(columns.tools)] = json_text(tools, str(columns.tools))
    try:
        return sharegpt.to_record({**row, **plain}, layout)
    except RowFault as fault:
        if len(turns) == len(raw):
            raise
        place = re.compile(rf"(?<={re.escape(name)}\[)\d+(?=\])")
        raise RowFault(place.sub(lambda m: str(numbers[int(m[0])]), fault.field), fault.reason) from None


def _joined_results(raw: Sequence[Any], tags: Tags) -> tuple[list[Any], list[int]]:
    """The messages with neighbouring tool results made one, and the number that each had in the row."""
    turns: list[Any] = []
    numbers: list[int] = []
    at = 0
    while at < len(raw):
        end = at + 1
        while _is_result(raw[at], tags) and end < len(raw) and _is_result(raw[end], tags):
            end += 1
        results = raw[at:end]
        if len(results) > 1:
            ordered = _in_order_of_calls(results, raw[at - 1] if at else None)
            content = json_text([turn[tags.content_tag] for turn in ordered], "content")
            turns.append({str(tags.role_tag): tags.observation_tag, str(tags.content_tag): content})
        else:
            turns.append(raw[at])
        numbers.append(at)
        at = end
    return turns, numbers


def _is_result(turn: Any, tags: Tags) -> bool:
    if not isinstance(turn, dict) or tags.observation_tag is None or turn.get(tags.role_tag) != tags.observation_tag:
        return False
    return isinstance(turn.get(tags.content_tag), str)


def _in_order_of_calls(results: Sequence[Any], before: Any) -> Sequence[Any]:
    """Tool results as the message ``before`` them called; as they are where the ids do not say."""
    calls = before.get("tool_calls") if isinstance(before, dict) else None
    ids = [call.get("id") if isinstance(call, dict) else None for call in calls] if isinstance(calls, list) else []
    by_id = {turn["tool_call_id"]: turn for turn in results if isinstance(turn.get("tool_call_id"), str)}
    matched = len(by_id) == len(results) == len(ids) and all(isinstance(i, str) and i in by_id for i in ids)
    return [by_id[i] for i in ids] if matched else results


def _without_calls(turn: Any, tags: Tags, at: str) -> Any:
    """A message with ``tool_calls`` as a function turn whose content is the JSON text of its calls."""
    if not isinstance(turn, dict) or not turn.get("tool_calls"):
        return turn
    if tags.function_tag is None:
        raise RowFault(at, "the message calls a tool, but the dataset's tags list no function_tag")
    if not isinstance(turn["tool_calls"], list):
        raise RowFault(f"{at}.tool_calls", f"a list of calls belongs here, not {kind_of(turn['tool_calls'])}")
    calls = []
    for number, call in enumerate(turn["tool_calls"]):
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise RowFault(f"{at}.tool_calls[{number}]", "a call needs a function with a name")
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):  # the wire format holds JSON text; encoding it again would be wrong
            arguments = json_value(arguments or "{}", f"{at}.tool_calls[{number}].arguments")
        calls.append({"name": function["name"], "arguments": arguments})
    content = json_text(calls[0] if len(calls) == 1 else calls, f"{at}.tool_calls")
    said = {key: turn[key] for key in WEIGHT_KEYS if key in turn}
    return {**said, str(tags.role_tag): tags.function_tag, str(tags.content_tag): content}


def from_record(record: Record) -> dict[str, Any]:
    """A record as an openai row: system as first message, function turns as tool calls with their results after."""
    if isinstance(record, TextRecord):
        raise RowFault("text", "plain text has no turns, so it cannot become a conversation")
    turns = record.prompt if isinstance(record, PreferenceRecord) else record.messages
    messages: list[dict[str, Any]] = [{"role": "system", "content": record.system}] if record.system else []
    pending: list[str] = []
    for number, message in enumerate(turns):
        messages += _messages(message, number, pending)
    row: dict[str, Any] = {"messages": messages}
    if isinstance(record, PreferenceRecord):
        row |= {
            "chosen": _messages(record.chosen, len(turns), [])[0],
            "rejected": _messages(record.rejected, len(turns), [])[0],
        }
    if record.tools:
        row["tools"] = json_value(record.tools, "tools")
    if isinstance(record, FeedbackRecord):
        row["kto_tag"] = record.desirable
    return row


def _messages(message: Message, number: int, pending: list[str]) -> list[dict[str, Any]]:
    """One turn as the message that it is (several for the results of several calls); ``pending`` carries the ids of
    calls that wait for their results."""
    if message.role == "observation":
        waiting, pending[:] = list(pending), []
        results = _results(message.content, len(waiting))
        ids = [{"tool_call_id": name} for name in waiting] or [{}]
        return [{"role": "tool", "content": result, **said} for result, said in zip(results, ids, strict=False)]
    if message.role != "function":
        return [{"role": NAMES[message.role], "content": message.content, **sharegpt.said_weight(message)}]
    calls = json_value(message.content, f"turn {number}", "the function call is ")
    spelled: list[dict[str, Any]] = []
    pending.clear()
    for call in calls if isinstance(calls, list) else [calls]:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise RowFault(f"turn {number}", "a function call needs a name")
        name = f"call_{number}_{len(spelled)}"
        pending.append(name)
        arguments = json_text(call.get("arguments", {}), f"turn {number}")
        spelled.append({"id": name, "type": "function", "function": {"name": call["name"], "arguments": arguments}})
    if not spelled:
        raise RowFault(f"turn {number}", "the list of function calls is empty")
    return [{"role": "assistant", "content": None, "tool_calls": spelled, **sharegpt.said_weight(message)}]


def _results(content: str, count: int) -> list[str]:
    """The texts of ``count`` results that one observation holds; all of it as one where it holds no such list."""
    if count > 1:
        try:
            found = json_value(content, "content")
        except RowFault:
            return [content]
        if isinstance(found, list) and len(found) == count and all(isinstance(result, str) for result in found):
            return found
    return [content]
