"""Checks of what a record says: blank parts, answers that do not differ, characters that should not be there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from registry.records import FeedbackRecord, Message, PreferenceRecord, Record, TextRecord

Level = Literal["error", "warning"]

_PLACEHOLDER = re.compile(r"\{\{\s*[A-Za-z_][\w.-]*\s*\}\}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a row. ``field`` names a part of the record: ``text``, ``system``, ``messages[2]``, ``chosen`` …"""

    field: str
    reason: str
    level: Level = "error"
    value: str = ""


def texts_of(record: Record) -> Iterator[tuple[str, str]]:
    """Every text of a record with the name of its part."""
    if isinstance(record, TextRecord):
        yield "text", record.text
        return
    yield "system", record.system
    yield "tools", record.tools
    for index, message in enumerate(_messages(record)):
        yield f"messages[{index}]", message.content
    if isinstance(record, PreferenceRecord):
        yield "chosen", record.chosen.content
        yield "rejected", record.rejected.content


def _messages(record: Record) -> tuple[Message, ...]:
    if isinstance(record, TextRecord):
        return ()
    return record.prompt if isinstance(record, PreferenceRecord) else record.messages


def _is_blank(text: str) -> bool:
    return not text or text.isspace()


def blank_text(record: Record) -> list[Fault]:
    """A row of plain text without text."""
    return [Fault("text", "the text is empty")] if isinstance(record, TextRecord) and _is_blank(record.text) else []


def blank_question(record: Record) -> list[Fault]:
    """A turn of the user without text. What a tool returned may well be empty."""
    return [
        Fault(f"messages[{index}]", "the question is empty")
        for index, message in enumerate(_messages(record))
        if message.role == "user" and _is_blank(message.content)
    ]


def blank_answer(record: Record) -> list[Fault]:
    """A turn of the model without text, the judged one and both of a pair included."""
    faults = []
    messages = _messages(record)
    for index, message in enumerate(messages):
        if message.role in ("assistant", "function") and _is_blank(message.content):
            judged = isinstance(record, FeedbackRecord) and index == len(messages) - 1
            faults.append(
                Fault(f"messages[{index}]", "the judged answer is empty" if judged else "the answer is empty")
            )
    if isinstance(record, PreferenceRecord):
        for name, answer in (("chosen", record.chosen), ("rejected", record.rejected)):
            if _is_blank(answer.content):
                faults.append(Fault(name, f"the {name} answer is empty"))
    return faults


def equal_answers(record: Record) -> list[Fault]:
    """A pair whose answers are the same teaches nothing."""
    if not isinstance(record, PreferenceRecord) or _is_blank(record.chosen.content):
        return []
    same = record.chosen.content.strip() == record.rejected.content.strip()
    return [Fault("chosen", "chosen and rejected are the same", value=record.chosen.content)] if same else []


def placeholders(record: Record) -> list[Fault]:
    """``{{name}}`` that nobody filled in."""
    return [
        Fault(part, "a {{placeholder}} is left unfilled", "warning", found[0])
        for part, text in texts_of(record)
        if "{{" in text and (found := _PLACEHOLDER.search(text))
    ]


def replacement_characters(record: Record) -> list[Fault]:
    """U+FFFD stands where somebody before us decoded bytes wrongly."""
    return [
        Fault(part, "holds U+FFFD: text was decoded wrongly before", "warning", _around(text, text.index("\ufffd")))
        for part, text in texts_of(record)
        if "\ufffd" in text
    ]


def lone_surrogates(record: Record) -> list[Fault]:
    """Halves of characters, which no tokenizer and no UTF-8 file can take."""
    return [
        Fault(part, "holds a lone surrogate (half of a character)", "error", _around(text, found.start()))
        for part, text in texts_of(record)
        if not text.isascii() and (found := _SURROGATE.search(text))
    ]


def control_characters(record: Record) -> list[Fault]:
    """NUL and its like, which text has no use for; tab and line breaks are none of them."""
    return [
        Fault(part, "holds NUL or other control characters", "warning", _around(text, found.start()))
        for part, text in texts_of(record)
        if not text.isprintable() and (found := _CONTROL.search(text))
    ]


def _around(text: str, at: int) -> str:
    return text[max(0, at - 20) : at + 20]


CHECKS: dict[str, Callable[[Record], list[Fault]]] = {
    "blank_text": blank_text,
    "blank_question": blank_question,
    "blank_answer": blank_answer,
    "equal_answers": equal_answers,
    "placeholders": placeholders,
    "replacement_characters": replacement_characters,
    "lone_surrogates": lone_surrogates,
    "control_characters": control_characters,
}
