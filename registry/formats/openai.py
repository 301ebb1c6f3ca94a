"""The openai format: a list of {role, content} messages, with tool calls as objects of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from registry.datasets import Layout, Tags
from registry.errors import RowFault
from registry.formats import sharegpt
from registry.formats.fields import kind_of, required
from registry.records import FeedbackRecord, Message, PreferenceRecord, Record, Role, TextRecord

NAMES: dict[Role, str] = {"user": "user", "assistant": "assistant", "observation": "tool", "function": "assistant"}


def to_record(row: Mapping[str, Any], layout: Layout) -> Record:
    """One row as a record: tool calls become function turns, tools given as objects their JSON text; the rest is as
    in sharegpt (a system message first, preference pairs, judged answers).

    Raises ``RowFault`` with the message's number.
    """
    columns, tags = layout.columns, layout.tags
    name = str(columns.messages)
    raw = required(row, name, list, "a list of messages")
    plain: dict[str, Any] = {name: [_without_calls(turn, tags, f"{name}[{i}]") for i, turn in enumerate(raw)]}
    for column in (columns.chosen, columns.rejected):
        if column is not None and column in row:
            plain[column] = _without_calls(row[column], tags, column)
    tools = row.get(columns.tools) if columns.tools else None
    if isinstance(tools, list | dict):
        plain[str(columns.tools)] = orjson.dumps(tools).decode()
    return sharegpt.to_record({**row, **plain}, layout)


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
            try:
                arguments = orjson.loads(arguments or "{}")
            except orjson.JSONDecodeError as error:
                raise RowFault(f"{at}.tool_calls[{number}].arguments", f"not JSON: {error.msg}") from None
        calls.append({"name": function["name"], "arguments": arguments})
    content = orjson.dumps(calls[0] if len(calls) == 1 else calls).decode()
    return {str(tags.role_tag): tags.function_tag, str(tags.content_tag): content}


def from_record(record: Record) -> dict[str, Any]:
    """A record as an openai row: system as first message, function turns as tool calls with their results after."""
    if isinstance(record, TextRecord):
        raise RowFault("text", "plain text has no turns, so it cannot become a conversation")
    turns = record.prompt if isinstance(record, PreferenceRecord) else record.messages
    messages: list[dict[str, Any]] = [{"role": "system", "content": record.system}] if record.system else []
    pending: list[str] = []
    for number, message in enumerate(turns):
        messages.append(_message(message, number, pending))
    row: dict[str, Any] = {"messages": messages}
    if isinstance(record, PreferenceRecord):
        row |= {
            "chosen": _message(record.chosen, len(turns), []),
            "rejected": _message(record.rejected, len(turns), []),
        }
    if record.tools:
        try:
            row["tools"] = orjson.loads(record.tools)
        except orjson.JSONDecodeError as error:
            raise RowFault("tools", f"not JSON: {error.msg}") from None
    if isinstance(record, FeedbackRecord):
        row["kto_tag"] = record.desirable
    return row


def _message(message: Message, number: int, pending: list[str]) -> dict[str, Any]:
    """One message; ``pending`` carries the ids of calls that wait for their results."""
    if message.role == "observation":
        return {"role": "tool", "content": message.content, **({"tool_call_id": pending.pop(0)} if pending else {})}
    if message.role != "function":
        return {"role": NAMES[message.role], "content": message.content}
    try:
        calls = orjson.loads(message.content)
    except orjson.JSONDecodeError as error:
        raise RowFault(f"turn {number}", f"the function call is not JSON: {error.msg}") from None
    spelled: list[dict[str, Any]] = []
    for call in calls if isinstance(calls, list) else [calls]:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise RowFault(f"turn {number}", "a function call needs a name")
        name = f"call_{number}_{len(spelled)}"
        pending.append(name)
        arguments = orjson.dumps(call.get("arguments", {})).decode()
        spelled.append({"id": name, "type": "function", "function": {"name": call["name"], "arguments": arguments}})
    return {"role": "assistant", "content": None, "tool_calls": spelled}
