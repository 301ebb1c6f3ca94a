"""Rows as TRL's datasets spell them, with whole lists of messages in prompt, completion, chosen and rejected."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from registry.datasets import OPENAI_TAGS, Columns, Layout
from registry.errors import RowFault
from registry.formats import openai
from registry.formats.fields import kind_of, required
from registry.records import Record

FORMATTING = "trl"
_MESSAGE = re.compile(r"messages\[(\d+)\]")
_NONE = dict.fromkeys(Columns.__dataclass_fields__)


def layout_of(row: Mapping[str, Any], parts: Mapping[str, str] | None = None) -> Layout | None:
    """The layout of a row whose chosen and rejected (or prompt and completion) are lists of messages, else None.

    ``parts`` (part → column) names the columns that are called otherwise. The prompt's column plays ``messages``.
    """
    names = {"prompt": "prompt", "response": "completion", "chosen": "chosen", "rejected": "rejected", **(parts or {})}
    optional = {part: names.get(part, part) for part in ("system", "tools")}
    if _is_messages(row.get(names["chosen"])) and _is_messages(row.get(names["rejected"])):
        found = {part: names[part] for part in ("chosen", "rejected")}
        if names["prompt"] in row:
            found["messages"] = names["prompt"]
        return Layout(FORMATTING, Columns(**{**_NONE, **found, **optional}), OPENAI_TAGS, ranking=True)
    if _is_messages(row.get(names["prompt"])) and _is_messages(row.get(names["response"])):
        found = {"messages": names["prompt"], "response": names["response"]}
        tag = names.get("kto_tag") or next((c for c in ("kto_tag", "label") if isinstance(row.get(c), bool)), None)
        return Layout(FORMATTING, Columns(**{**_NONE, **found, **optional, "kto_tag": tag}), OPENAI_TAGS)
    return None


def to_record(row: Mapping[str, Any], layout: Layout) -> Record:
    """One row as a record: what chosen and rejected begin with alike is their prompt, the one message left the answer.

    A prompt beside them may be a list of messages (which they may or may not repeat) or the text of the first question.
    Raises ``RowFault`` for answers of several messages, for sides of one question that are not alike, and as
    ``openai.to_record``.
    """
    columns = layout.columns
    parts: dict[str, str | None] = {"messages": "messages", "system": columns.system, "tools": columns.tools}
    made = {c: row[c] for c in (columns.system, columns.tools) if c is not None and c in row}
    prompt = row.get(columns.messages) if columns.messages else None
    if layout.ranking:
        names = str(columns.chosen), str(columns.rejected)
        chosen, rejected = (_whole(prompt, _messages_of(row, name), str(columns.messages), name) for name in names)
        made["messages"], made["chosen"], made["rejected"] = _split(chosen, rejected, names)
        parts |= {"chosen": "chosen", "rejected": "rejected"}
    else:
        name = str(columns.response)
        made["messages"] = _whole(prompt, _messages_of(row, name), str(columns.messages), name)
        if columns.kto_tag:
            made["kto_tag"] = required(row, columns.kto_tag, bool, "true or false")
            parts["kto_tag"] = "kto_tag"
    try:
        return openai.to_record(made, Layout("openai", Columns(**{**_NONE, **parts}), layout.tags, layout.ranking))
    except RowFault as fault:
        raise RowFault(_own_field(fault.field, prompt, layout), fault.reason) from None


def _own_field(field: str, prompt: Any, layout: Layout) -> str:
    """A field of the conversation put together, as the row itself calls it: ``messages[2]`` → ``completion[1]``."""
    answer = str(layout.columns.chosen or layout.columns.response)
    place = _MESSAGE.match(field)
    if place is None:
        return {"messages": answer, "chosen": answer, "rejected": str(layout.columns.rejected)}.get(field, field)
    at, apart = int(place[1]), isinstance(prompt, list)
    if apart and at < len(prompt):
        return f"{layout.columns.messages}[{at}]{field[place.end() :]}"
    return f"{answer}[{at - len(prompt) if apart else at}]{field[place.end() :]}"


def _is_messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "role" in value[0]


def _messages_of(row: Mapping[str, Any], name: str) -> list[Any]:
    messages: list[Any] = required(row, name, list, "a list of messages")
    for number, turn in enumerate(messages):
        if not isinstance(turn, dict):
            raise RowFault(f"{name}[{number}]", f"a message object belongs here, not {kind_of(turn)}")
    if not messages:
        raise RowFault(name, "there is no message in it")
    return messages


def _whole(prompt: Any, answer: list[Any], prompt_name: str, name: str) -> list[Any]:
    """The conversation that ``prompt`` and ``answer`` make together."""
    if prompt is None:
        return answer
    if isinstance(prompt, str):
        first = next((turn for turn in answer if turn.get("role") != "system"), None)
        if first is None or first.get("role") != "user":
            return [{"role": "user", "content": prompt}, *answer]
        if first.get("content") != prompt:
            raise RowFault(name, f"its first question is not the one in {prompt_name}")
        return answer
    if not isinstance(prompt, list):
        raise RowFault(prompt_name, f"a list of messages or text belongs here, not {kind_of(prompt)}")
    return answer if answer[: len(prompt)] == prompt else [*prompt, *answer]


def _split(chosen: list[Any], rejected: list[Any], names: tuple[str, str]) -> tuple[list[Any], Any, Any]:
    """The prompt that two conversations share, and the last message of each."""
    if len(chosen) != len(rejected) or chosen[:-1] != rejected[:-1]:
        at = next((i for i, (one, other) in enumerate(zip(chosen, rejected, strict=False)) if one != other), None)
        where = f"{names[0]}[{at}]" if at is not None else names[0]
        raise RowFault(where, f"{names[0]} and {names[1]} part ways before their last message; only that may differ")
    return chosen[:-1], chosen[-1], rejected[-1]
