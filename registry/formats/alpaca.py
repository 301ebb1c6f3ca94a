"""The alpaca format: instruction, input and output side by side; also its preference, feedback and text forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry.datasets import Layout
from registry.errors import RowFault
from registry.formats.fields import kind_of, optional_text, required
from registry.records import ChatRecord, FeedbackRecord, Message, PreferenceRecord, Record, TextRecord


def to_record(row: Mapping[str, Any], layout: Layout) -> Record:
    """One row as a record (as LLaMA-Factory 0.9.5): prompt and query joined by a newline, history as turns before them.

    Raises ``RowFault`` naming the field for what LLaMA-Factory would drop or choke on.
    """
    columns, kind = layout.columns, layout.kind
    prompt = optional_text(row, columns.prompt)
    if kind == "text":
        return TextRecord(prompt)
    query = optional_text(row, columns.query)
    messages = (
        *_history(row, columns.history),
        Message("user", f"{prompt}\n{query}" if prompt and query else prompt or query),
    )
    system = optional_text(row, columns.system)
    tools = optional_text(row, columns.tools)
    if kind == "preference":
        chosen, rejected = (
            Message("assistant", required(row, c, str, "text")) for c in (columns.chosen, columns.rejected)
        )
        return PreferenceRecord(messages, chosen, rejected, system, tools)
    messages = (*messages, Message("assistant", required(row, columns.response, str, "text")))
    if kind == "feedback":
        return FeedbackRecord(messages, required(row, columns.kto_tag, bool, "true or false"), system, tools)
    return ChatRecord(messages, system, tools)


def from_record(record: Record) -> dict[str, Any]:
    """A record as an alpaca row; ``system``, ``history`` and ``tools`` only where there is something to say.

    Raises ``RowFault`` for what the format has no place for: function calls and their results, weights of turns.
    """
    if isinstance(record, TextRecord):
        return {"text": record.text}
    if isinstance(record, PreferenceRecord):
        before, answers = record.prompt, {"chosen": record.chosen.content, "rejected": record.rejected.content}
        models_turns: tuple[Message, ...] = (record.chosen, record.rejected)
    else:
        before, answers = record.messages[:-1], {"output": record.messages[-1].content}
        models_turns = (record.messages[-1],)
    for message in (*before, *models_turns):
        if message.role in ("function", "observation"):
            raise RowFault("messages", f"alpaca has no place for a {message.role} turn")
        if message.weight != 1:
            raise RowFault("messages", f"alpaca has no place for a turn's weight ({message.weight:g})")
    row: dict[str, Any] = {"instruction": before[-1].content, "input": "", **answers}
    if record.system:
        row["system"] = record.system
    if len(before) > 1:
        row["history"] = [[before[i].content, before[i + 1].content] for i in range(0, len(before) - 1, 2)]
    if record.tools:
        row["tools"] = record.tools
    if isinstance(record, FeedbackRecord):
        row["kto_tag"] = record.desirable
    return row


def _history(row: Mapping[str, Any], column: str | None) -> list[Message]:
    value = row.get(column) if column else None
    if value is None:
        return []
    if not isinstance(value, list):
        raise RowFault(str(column), f"a list of [question, answer] pairs belongs here, not {kind_of(value)}")
    messages: list[Message] = []
    for number, pair in enumerate(value):
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(side, str) for side in pair)):
            raise RowFault(f"{column}[{number}]", "a pair of texts [question, answer] belongs here")
        messages += [Message("user", pair[0]), Message("assistant", pair[1])]
    return messages
