"""The sharegpt format: a list of {from, value} messages, with the names of keys and roles set by tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from registry.datasets import Layout, Tags
from registry.errors import RowFault, did_you_mean
from registry.formats.fields import kind_of, optional_text, required
from registry.formats.weights import KEYS as WEIGHT_KEYS
from registry.formats.weights import check_whole, weight_of
from registry.records import (
    MODEL_SIDE,
    USER_SIDE,
    ChatRecord,
    FeedbackRecord,
    Message,
    PreferenceRecord,
    Record,
    Role,
    TextRecord,
)

NAMES: dict[Role, str] = {
    "user": "human",
    "assistant": "gpt",
    "observation": "observation",
    "function": "function_call",
}


def to_record(row: Mapping[str, Any], layout: Layout) -> Record:
    """One row as a record (as LLaMA-Factory 0.9.5): a leading system turn wins over the column, then sides alternate.

    Raises ``RowFault`` with the turn's number for what LLaMA-Factory would drop or choke on.
    """
    columns, tags = layout.columns, layout.tags
    name = str(columns.messages)
    raw = required(row, name, list, "a list of messages")
    system, turns = split_system(raw, tags, name, weights=layout.weights)
    system = system if system is not None else optional_text(row, columns.system)
    tools = optional_text(row, columns.tools)
    messages = read_messages(turns, tags, name, first=len(raw) - len(turns), weights=layout.weights)
    if layout.kind == "preference":
        if len(messages) % 2 == 0:
            raise RowFault(name, f"a prompt must end with the user's turn; this one has {len(messages)} turns")
        sides = (columns.chosen, columns.rejected)
        chosen, rejected = (_model_message(row, c, tags, weights=layout.weights) for c in sides)
        return PreferenceRecord(messages, chosen, rejected, system, tools)
    check_complete(messages, name)
    if layout.kind == "feedback":
        check_whole(messages[-1].weight, f"{name}[{len(raw) - 1}]")
        return FeedbackRecord(messages, required(row, columns.kto_tag, bool, "true or false"), system, tools)
    return ChatRecord(messages, system, tools)


def split_system(raw: Sequence[Any], tags: Tags, name: str, *, weights: bool = True) -> tuple[str | None, list[Any]]:
    """The leading system turn's text (None where there is none) and the turns after it."""
    first = raw[0] if raw else None
    if tags.system_tag and isinstance(first, dict) and first.get(str(tags.role_tag)) == tags.system_tag:
        if weights:
            weight_of(first, f"{name}[0]", answers=False)
        return _content(first, tags, f"{name}[0]"), list(raw[1:])
    return None, list(raw)


def read_messages(
    turns: Sequence[Any], tags: Tags, name: str, *, first: int = 0, weights: bool = True
) -> tuple[Message, ...]:
    """Messages whose sides alternate, the user's first; ``first`` is the number of turns before them in the row, and
    ``weights`` says whether they are asked for theirs."""
    roles = roles_of(tags)
    messages: list[Message] = []
    for offset, turn in enumerate(turns):
        at = f"{name}[{first + offset}]"
        if not isinstance(turn, dict):
            raise RowFault(at, f"a message object belongs here, not {kind_of(turn)}")
        role = role_of(turn, tags, roles, at)
        expected = USER_SIDE if offset % 2 == 0 else MODEL_SIDE
        if role not in expected:
            side = "the user's side" if offset % 2 == 0 else "the model's side"
            spelled = " or ".join(tag for tag, r in roles.items() if r in expected)
            raise RowFault(
                at, f'roles must alternate: a turn of {side} ({spelled}) belongs here, not "{turn[tags.role_tag]}"'
            )
        messages.append(_message(role, turn, tags, at, weights))
    return tuple(messages)


def _message(role: Role, turn: Mapping[str, Any], tags: Tags, at: str, weights: bool) -> Message:
    content = _content(turn, tags, at)
    if not weights or turn.keys().isdisjoint(WEIGHT_KEYS):
        return Message(role, content)
    answers = role in MODEL_SIDE
    weight = weight_of(turn, at, answers=answers)
    return Message(role, content, weight if answers else 1.0)


def check_complete(messages: Sequence[Message], name: str) -> None:
    """Raise ``RowFault`` unless there are turns and the last one is the model's."""
    if not messages:
        raise RowFault(name, "there is no turn in it")
    if len(messages) % 2:
        raise RowFault(
            name, f"the last turn must be the model's answer; {len(messages)} turns end with the user's side"
        )


def roles_of(tags: Tags) -> dict[str, Role]:
    """How the roles are spelled in this dataset; roles without a tag do not exist in it."""
    spelled = {
        tags.user_tag: "user",
        tags.assistant_tag: "assistant",
        tags.observation_tag: "observation",
        tags.function_tag: "function",
    }
    return {str(tag): role for tag, role in spelled.items() if tag}  # type: ignore[misc]


def role_of(turn: Mapping[str, Any], tags: Tags, roles: Mapping[str, Role], at: str) -> Role:
    """The role of one turn. Raises ``RowFault`` with the known roles and the nearest one."""
    name = turn.get(str(tags.role_tag))
    if name is None:
        raise RowFault(at, f'the message has no "{tags.role_tag}"; its keys: {", ".join(turn) or "none"}')
    if name == tags.system_tag:
        raise RowFault(at, "a system turn may only come first")
    if not isinstance(name, str) or name not in roles:
        hint = did_you_mean(str(name), roles)
        raise RowFault(at, f'"{name}" is not a role; known: {", ".join(roles)}. {hint}'.rstrip())
    return roles[name]


def _content(turn: Mapping[str, Any], tags: Tags, at: str) -> str:
    try:
        return required(turn, tags.content_tag, str, "text")
    except RowFault as fault:
        raise RowFault(f"{at}.{fault.field}", fault.reason) from None


def _model_message(row: Mapping[str, Any], column: str | None, tags: Tags, *, weights: bool) -> Message:
    if column is not None and isinstance(row.get(column), list):
        hint = "datakit convert --to preference takes the last message of a whole conversation"
        raise RowFault(column, f"a message object belongs here, not a list; {hint}")
    turn = required(row, column, dict, "a message object")
    role = role_of(turn, tags, roles_of(tags), str(column))
    if role not in MODEL_SIDE:
        raise RowFault(str(column), f'an answer must be the model\'s turn, not "{turn[tags.role_tag]}"')
    message = _message(role, turn, tags, str(column), weights)
    check_whole(message.weight, str(column))
    return message


def from_record(record: Record) -> dict[str, Any]:
    """A record as a sharegpt row; ``system``, ``tools`` and a turn's ``weight`` only where there is something to say."""
    if isinstance(record, TextRecord):
        raise RowFault("text", "plain text has no turns, so it cannot become a conversation")
    messages = record.prompt if isinstance(record, PreferenceRecord) else record.messages
    row: dict[str, Any] = {"conversations": [_turn(m) for m in messages]}
    if isinstance(record, PreferenceRecord):
        row |= {"chosen": _turn(record.chosen), "rejected": _turn(record.rejected)}
    if record.system:
        row["system"] = record.system
    if record.tools:
        row["tools"] = record.tools
    if isinstance(record, FeedbackRecord):
        row["kto_tag"] = record.desirable
    return row


def _turn(message: Message) -> dict[str, Any]:
    return {"from": NAMES[message.role], "value": message.content, **said_weight(message)}


def said_weight(message: Message) -> dict[str, float]:
    """The key that tells a message's weight, where it is not 1."""
    return {} if message.weight == 1 else {"weight": message.weight}
