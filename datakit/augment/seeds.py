"""Seeds as templates see them, and the records that made rows are built from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from datakit.augment.failures import CallFailed, Kind
from datakit.augment.rollout import Seed
from datakit.augment.shapes import Dialogue
from registry.records import ChatRecord, FeedbackRecord, Message, PreferenceRecord, Record, TextRecord

SPOKEN = ("user", "assistant")  # roles whose content is text for people; calls and results of tools are JSON


def seed_value(record: Record) -> dict[str, Any]:
    """What a template reads as ``seed``.

    ``system`` is the system prompt or "", ``turns`` a list of {role, content} (role: user, assistant, or observation
    and function for tools), ``question`` the last user message, ``answer`` the last message where it is the
    assistant's, else "", ``text`` a document's text, ``tools`` JSON text or "", ``is_single`` whether it is one question
    and one answer. Parts that the kind of record lacks are empty.
    """
    if isinstance(record, TextRecord):
        return {**_EMPTY, "text": record.text}
    chat = conversation(record)
    return {
        **_EMPTY,
        "system": chat.system,
        "tools": chat.tools,
        "turns": [{"role": message.role, "content": message.content} for message in chat.messages],
        "question": next((m.content for m in reversed(chat.messages) if m.role == "user"), ""),
        "answer": answer_of(chat),
        "is_single": tuple(message.role for message in chat.messages) == SPOKEN,
    }


_EMPTY: dict[str, Any] = {
    **dict.fromkeys(("system", "question", "answer", "text", "tools"), ""),
    "turns": [],
    "is_single": False,
}


def values_of(seed: Seed) -> dict[str, Any]:
    """The values that a seed gives to a template: ``seed``, ``pool`` (a list of such), or nothing."""
    if seed.pool:
        return {"pool": [seed_value(one.record) for one in seed.pool if one.record is not None]}
    return {"seed": seed_value(seed.record)} if seed.record is not None else {}


def conversation(record: Record | None) -> ChatRecord:
    """The conversation in a record; of a preference pair the one with the better answer.

    Raises ``CallFailed`` for a document: the recipe was told the wrong kind of rows.
    """
    if isinstance(record, ChatRecord):
        return record
    if isinstance(record, PreferenceRecord):
        return ChatRecord((*record.prompt, record.chosen), record.system, record.tools)
    if isinstance(record, FeedbackRecord):
        return ChatRecord(record.messages, record.system, record.tools)
    raise CallFailed(Kind.REFUSED, "the recipe takes conversations, and this row is a document", code="no conversation")


def answer_of(chat: ChatRecord) -> str:
    """The last message where it is the assistant's; empty where it is not, or has yet to be written."""
    last = chat.messages[-1] if chat.messages else None
    return last.content if last is not None and last.role == "assistant" else ""


def is_answered(chat: ChatRecord) -> bool:
    """Whether the conversation ends with the model's side, and with more than white space."""
    last = chat.messages[-1] if chat.messages else None
    return last is not None and last.role in ("assistant", "function") and bool(last.content.strip())


# ---- made records --------------------------------------------------------------------------------------------------


def asked(question: str, system: str = "", tools: str = "") -> ChatRecord:
    """A conversation that waits for its first answer."""
    return ChatRecord((Message("user", question),), system, tools)


def with_answer(chat: ChatRecord, answer: str) -> ChatRecord:
    """The conversation with ``answer`` as its last message, in place of the one that was there."""
    return replace(chat, messages=(*unanswered(chat).messages, Message("assistant", answer)))


def unanswered(chat: ChatRecord) -> ChatRecord:
    """The conversation without its last message, where that is the model's."""
    ends = chat.messages and chat.messages[-1].role in ("assistant", "function")
    return replace(chat, messages=chat.messages[:-1]) if ends else chat


def with_first_question(chat: ChatRecord, question: str) -> ChatRecord:
    """The conversation begun with another question; all answers are kept."""
    at = next((number for number, message in enumerate(chat.messages) if message.role == "user"), None)
    if at is None:
        raise CallFailed(Kind.REFUSED, "there is no user message in it", code="no question")
    return replace(chat, messages=(*chat.messages[:at], Message("user", question), *chat.messages[at + 1 :]))


def from_dialogue(dialogue: Dialogue, seed: Record | None) -> ChatRecord:
    """A written conversation. Its seed's system prompt and tools hold for it too, unless it brings its own prompt."""
    like = conversation(seed) if seed is not None and not isinstance(seed, TextRecord) else ChatRecord(())
    messages = tuple(Message(turn.role, turn.content) for turn in dialogue.turns)
    return ChatRecord(messages, dialogue.system.strip() or like.system, like.tools)


def texts_of(record: Record) -> list[str]:
    """The texts for people in a row, in their order, without empty ones: the system prompt, questions and answers."""
    if isinstance(record, TextRecord):
        return [record.text] if record.text.strip() else []
    chat = conversation(record)
    said = [chat.system, *(message.content for message in chat.messages if message.role in SPOKEN)]
    return [text for text in said if text.strip()]


def with_texts(record: Record, texts: Sequence[str]) -> Record:
    """The row with its ``texts_of`` replaced. Raises ``ValueError`` unless they are as many."""
    if len(texts) != len(texts_of(record)):
        raise ValueError(f"{len(texts)} texts for {len(texts_of(record))}")
    waiting = iter(texts)

    def new(old: str) -> str:
        return next(waiting) if old.strip() else old

    if isinstance(record, TextRecord):
        return TextRecord(new(record.text))
    chat = conversation(record)
    system = new(chat.system)
    return ChatRecord(
        tuple(replace(m, content=new(m.content)) if m.role in SPOKEN else m for m in chat.messages), system, chat.tools
    )


def content_key(record: Record | None) -> int:
    """64 bits that depend on what a record says and on nothing else: not on its file, row number or other columns."""
    said = orjson.dumps([type(record).__name__, record], option=orjson.OPT_SORT_KEYS)
    said = said.replace(
        b',"weight":1.0}', b"}"
    )  # keys of answers that were bought before turns had a weight stay the same
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "little")
