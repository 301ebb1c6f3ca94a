"""The openai format: a list of {role, content} messages, with tool calls as objects of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from registry.datasets import Layout, Tags
from registry.errors import RowFault
from registry.formats.fields import optional_text, required
from registry.formats.sharegpt import check_complete, read_messages, split_system
from registry.records import ChatRecord, FeedbackRecord, Message, PreferenceRecord, Record, Role, TextRecord

NAMES: dict[Role, str] = {"user": "user", "assistant": "assistant", "observation": "tool", "function": "assistant"}


def to_record(row: Mapping[str, Any], layout: Layout) -> Record:
    """One row as a record: tool calls become function turns, a system message may come first.

    Raises ``RowFault`` with the message's number.
    """
    name = str(layout.columns.messages)
    raw = required(row, name, list, "a list of messages")
    tags = layout.tags
    system, turns = split_system(raw, tags, name)
    first = len(raw) - len(turns)
    plain = [_without_calls(turn, tags, f"{name}[{first + i}]") for i, turn in enumerate(turns)]
    messages = read_messages(plain, tags, name, first=first)
    check_complete(messages, name)
    tools = row.get(layout.columns.tools) if layout.columns.tools else None
    spelled = (
        orjson.dumps(tools).decode() if isinstance(tools, list | dict) else optional_text(row, layout.columns.tools)
    )
    return ChatRecord(messages, system if system is not None else optional_text(row, layout.columns.system), spelled)


def _without_calls(turn: Any, tags: Tags, at: str) -> Any:
    """A message with ``tool_calls`` as a function turn whose content is the JSON text of its calls."""
    if not isinstance(turn, dict) or not turn.get("tool_calls"):
        return turn
    if tags.function_tag is None:
        raise RowFault(at, "the message calls a tool, but the dataset's tags list no function_tag")
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
