"""What a prompt asks for: the form of the answer, how many items, and the language, read from its text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DEFAULT_ITEMS, MOST_ITEMS = 3, 50
LISTS = ("texts", "pairs", "dialogues", "instructions")
FORMS = (*LISTS, "score", "winner")

_KEY = re.compile(r'"(' + "|".join(FORMS) + r')"\s*:')
_ENGLISH = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_NUMBERS = {
    **{str(i): i for i in range(1, MOST_ITEMS + 1)},
    **{word: i for i, word in enumerate(_ENGLISH, 1)},
    **{word: i for i, word in enumerate("一二三四五六七八九十", 1)},
    "两": 2,
}
_COUNTED = (
    *("text", "version", "way", "pair", "question", "dialogue", "conversation", "instruction", "task", "item", "row"),
    *("example", "variant", "rewording", "paraphrase", "translation", "sample"),
)
_ITEMS = frozenset(word + ending for word in _COUNTED for ending in ("", "s"))
_ROUNDS = frozenset(("exchange", "exchanges", "round", "rounds"))
_STOPS = frozenset(("of", ".", "?", "!", ";"))
_MARKS = (".", "?", "!", ";", ":", "=")
_CHINESE = re.compile(r"(\d{1,2}|[一二两三四五六七八九十])\s*(?:([个条组段种份道对则篇])|[轮回])")
# A line that says it outright: "New conversations wanted: 5", "需要的轮数：3". The last one counts, as it stands behind
# the material.
_LABELLED = re.compile(r"[:：]\s*(\d{1,2})\s*$", re.M)
_WANTED = ("wanted", "number of", "how many", "数量", "条数", "轮数", "需要")
_REACH = 5  # words between a number and what it counts: "write 5 new and short dialogues"
_READ = 20_000  # characters of a prompt that are looked through for numbers
# The language that an answer is asked in, and what stands right before its name: "into Chinese", "翻译成中文".
_INTO = {"chinese": "zh", "english": "en", "中文": "zh", "汉语": "zh", "英文": "en", "英语": "en"}
_BEFORE = re.compile(r"(?:\b(?:into|in|to)\s+(?:simplified\s+)?|[成为](?:简体)?)$")
_CJK = re.compile(r"[\u4e00-\u9fff]")
_LATIN = re.compile(r"[A-Za-z]")


@dataclass(frozen=True)
class Wanted:
    """What a prompt asks for: a form of ``FORMS`` or ``text``, ``thought`` or ``schema``; how many items; the language."""

    form: str
    items: int
    turns: int
    language: str
    schema: Mapping[str, Any] | None = None


def prompt_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """What was said to the model, its own turns left out."""
    return "\n".join(content_text(m.get("content")) for m in messages if m.get("role") != "assistant")


def content_text(content: Any) -> str:
    """The text of a message's content: a string, or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""


def language_of(text: str) -> str:
    """``zh`` where a good part of the letters is Chinese, else ``en``."""
    if text.isascii():
        return "en"
    chinese = len(_CJK.findall(text))
    return "zh" if chinese and chinese * 4 >= len(_LATIN.findall(text)) else "en"


def wanted(messages: Sequence[Mapping[str, Any]], response_format: Any = None) -> Wanted:
    """Read from a prompt (and the schema beside it, if there is one) what kind of answer it wants."""
    text = prompt_text(messages)
    schema = _schema_of(response_format)
    stated = _KEY.search(text)
    form = stated.group(1) if stated else "thought" if "<think>" in text else "text"
    language = _into(text) or language_of(text)
    items, turns = numbers_of(text) if form in LISTS or schema else (0, 0)
    items = items or DEFAULT_ITEMS
    if schema:
        properties = schema.get("properties") or {}
        form = next((name for name in FORMS if name in properties), "schema")
        of_list = properties.get(form) or {}
        items = int(of_list.get("minItems") or of_list.get("maxItems") or items)
    return Wanted(form, items, turns or 1, language, schema)


def _into(text: str) -> str:
    lower = text.lower()
    for name, language in _INTO.items():
        at = lower.find(name)
        if at >= 0 and _BEFORE.search(lower[max(0, at - 20) : at]):
            return language
    return ""


def _schema_of(response_format: Any) -> Mapping[str, Any] | None:
    if not isinstance(response_format, dict):
        return None
    holder = response_format.get("json_schema")
    schema = holder.get("schema") if isinstance(holder, dict) else response_format.get("schema")
    return schema if isinstance(schema, dict) and schema else None


def _labelled(text: str) -> tuple[int, int]:
    items = turns = 0
    for match in _LABELLED.finditer(text):
        label = text[text.rfind("\n", 0, match.start()) + 1 : match.start()].lower()
        number = _NUMBERS.get(match.group(1), 0)
        if "exchange" in label or "轮" in label:
            turns = number
        elif any(word in label for word in _WANTED) or not _ITEMS.isdisjoint(label.split()):
            items = number
    return items, turns


def numbers_of(text: str) -> tuple[int, int]:
    """How many items a prompt asks for, and how many exchanges in each; 0 where it does not say."""
    items, turns = _labelled(text)
    lower = text[:_READ].lower()
    if not lower.isascii():
        for number, counts_items in _CHINESE.findall(lower):
            if counts_items:
                items = items or _NUMBERS.get(number, 0)
            else:
                turns = turns or _NUMBERS.get(number, 0)
    for mark in _MARKS:
        lower = lower.replace(mark, f" {mark} ")
    words = lower.replace(",", " ").split()
    for place in [i for i, word in enumerate(words) if word in _NUMBERS]:
        number = _NUMBERS[words[place]]
        if place >= 2 and words[place - 1] in (":", "=", "is", "are") and words[place - 2] in _ITEMS:
            items = items or number
        for word in words[place + 1 : place + 1 + _REACH]:
            if word in _STOPS:
                break
            if word in _ROUNDS:
                turns = turns or number
                break
            if word in _ITEMS:
                items = items or number
                break
    return items, turns
