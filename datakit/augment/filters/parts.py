"""The texts of a record with who says each, and which of them a made row has that its seeds do not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from datakit.augment.rollout import Made, Seed
from registry.records import MODEL_SIDE, ChatRecord, FeedbackRecord, Message, PreferenceRecord, Record, TextRecord

_THOUGHTS = re.compile(r"\A\s*<think>.*?(?:</think>|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Part:
    """One text of a record. ``role`` is that of its turn, or ``text``; ``chosen`` and ``rejected`` are answers too."""

    text: str
    role: str

    @property
    def is_answer(self) -> bool:
        """Whether the model says it."""
        return self.role in MODEL_SIDE or self.role in ("chosen", "rejected")

    @property
    def is_speech(self) -> bool:
        """Whether people read it: no call of a tool, and not what a tool returned."""
        return self.role not in ("function", "observation")

    @property
    def name(self) -> str:
        """What it is, for people."""
        if self.role in ("chosen", "rejected"):
            return f"{self.role} answer"
        return "answer" if self.is_answer else "text" if self.role == "text" else "question"


def parts_of(record: Record | None) -> list[Part]:
    """The texts of all turns in order; the system's text and the tools are no turns."""
    if record is None:
        return []
    if isinstance(record, TextRecord):
        return [Part(record.text, "text")]
    if isinstance(record, PreferenceRecord):
        turns = [Part(turn.content, turn.role) for turn in record.prompt]
        return [*turns, Part(record.chosen.content, "chosen"), Part(record.rejected.content, "rejected")]
    return [Part(turn.content, turn.role) for turn in record.messages]


def exchanges_of(parts: Sequence[Part]) -> Iterator[tuple[Part, Part]]:
    """Each answer with the question before it; both answers of a pair with the last question."""
    asked: Part | None = None
    for part in parts:
        if part.role == "user":
            asked = part
        elif part.is_answer and part.is_speech and asked is not None:
            yield asked, part


def without_thoughts(text: str) -> str:
    """An answer without the reasoning that stands before it in ``<think>``."""
    return _THOUGHTS.sub("", text, count=1) if "<think>" in text else text


def seeds_of(made: Made) -> list[Seed]:
    """The seeds with a record that a row comes from, those of a pool included, each once."""
    found = [inner for seed in made.seeds for inner in (seed, *seed.pool) if inner.record is not None]
    return list({(seed.file, seed.number, seed.chunk, seed.index): seed for seed in found}.values())


def new_parts(parts: Iterable[Part], seeds: Iterable[Part]) -> list[Part]:
    """Those parts whose text, letter for letter, none of ``seeds`` has on the same side."""
    known = {(part.text, part.is_answer) for part in seeds}
    return [part for part in parts if (part.text, part.is_answer) not in known]


def compared_value(record: Record, *, questions: bool) -> Any:
    """What is equal in rows that are exact duplicates: all of a record, or of a conversation only the user's side."""
    if isinstance(record, TextRecord):
        return {"text": record.text}
    if questions:
        turns: Sequence[Message] = record.prompt if isinstance(record, PreferenceRecord) else record.messages
        return {"system": record.system, "turns": [[turn.role, turn.content] for turn in turns if turn.role == "user"]}
    value: dict[str, Any] = {
        "system": record.system,
        "tools": record.tools,
        "turns": [[part.role, part.text] for part in parts_of(record)],
    }
    return value | {"desirable": record.desirable} if isinstance(record, FeedbackRecord) else value


def compared_texts(record: Record, *, questions: bool) -> tuple[list[str], tuple[int, int]]:
    """The texts whose n-grams are compared, and their mark (see ``datakit.dedup.grams.RowTokens.shingles``)."""
    parts = [part for part in parts_of(record) if not questions or part.role in ("user", "text")]
    label = (1 if record.desirable else 2) if isinstance(record, FeedbackRecord) and not questions else 0
    rejected = sum(part.role == "rejected" and bool(part.text) for part in parts)
    return [part.text for part in parts if part.text], (label, rejected)


def text_of(record: Record) -> str:
    """A record as one text, for an example: its turns with an arrow between."""
    return " → ".join(part.text for part in parts_of(record))


def system_of(record: Record | None) -> str:
    """The system's text of a record, where its kind has one."""
    return record.system if isinstance(record, ChatRecord | PreferenceRecord | FeedbackRecord) else ""
