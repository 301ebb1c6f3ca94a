"""Honest answers: well-formed, varied, and the same for the same question asked the same number of times."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import orjson
import yaml

from tests.datakit.faults.wanted import DEFAULT_ITEMS, Wanted

WORDS = Path(__file__).with_name("words.yaml")


class Dice:
    """Choices that follow from a seed alone; a hundred times cheaper to make than ``random.Random``."""

    __slots__ = ("_state",)

    def __init__(self, seed: bytes) -> None:
        self._state = int.from_bytes(hashlib.blake2b(seed, digest_size=8).digest(), "big")

    def below(self, limit: int) -> int:
        """0 to ``limit`` - 1."""
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        return (self._state >> 33) % limit


class Voice(Protocol):
    """Where the texts of an answer come from."""

    @property
    def language(self) -> str:
        """``en`` or ``zh``."""
        ...

    def say(self, kind: str, sentences: int = 1) -> str:
        """A text of a ``kind`` in words.yaml."""
        ...

    def number(self, low: int, high: int) -> int:
        """A number from ``low`` to ``high``."""
        ...


class Writer:
    """The honest voice: sentences built of word lists, chosen by a seed."""

    def __init__(self, seed: bytes, language: str) -> None:
        self.language = language
        self._dice = Dice(seed)
        self._kinds, self._words = vocabulary(language)

    def say(self, kind: str, sentences: int = 1) -> str:
        """Sentences of one kind, joined as the language does."""
        below = self._dice.below
        templates, words = self._kinds[kind], self._words
        parts: list[str] = []
        chosen = below(len(templates))
        for i in range(sentences):
            if i:
                # Never one template twice in a row: that would read like a stutter.
                chosen = (chosen + 1 + below(max(1, len(templates) - 1))) % len(templates)
                parts.append(" " if self.language == "en" else "")
            for piece, slot, capital in templates[chosen]:
                parts.append(piece)
                if slot:
                    choices = words[slot]
                    word = choices[below(len(choices))]
                    parts.append(word[0].upper() + word[1:] if capital else word)
        return "".join(parts)

    def number(self, low: int, high: int) -> int:
        """A number from ``low`` to ``high``."""
        return low + self._dice.below(high - low + 1)


@dataclass(frozen=True)
class Parrot:
    """A voice that says one text whatever is asked: echoes, refusals, the same answer to all."""

    text: str
    language: str = "en"

    def say(self, kind: str, sentences: int = 1) -> str:
        """The text."""
        return self.text

    def number(self, low: int, high: int) -> int:
        """Always ``high``."""
        return high


@dataclass(frozen=True)
class Marked:
    """A voice whose answers end in ``mark``."""

    voice: Voice
    mark: str

    @property
    def language(self) -> str:
        return self.voice.language

    def say(self, kind: str, sentences: int = 1) -> str:
        """The text of the voice behind, marked."""
        return self.voice.say(kind, sentences) + self.mark

    def number(self, low: int, high: int) -> int:
        """As the voice behind says."""
        return self.voice.number(low, high)


@cache
def vocabulary(language: str) -> tuple[dict[str, list[list[tuple[str, str, bool]]]], dict[str, list[str]]]:
    """Templates by kind, each cut into (text, slot after it, whether the slot's word is capitalised), and words by slot."""
    found = yaml.safe_load(WORDS.read_text(encoding="utf-8"))[language]
    words = found.pop("words")
    kinds: dict[str, list[list[tuple[str, str, bool]]]] = {}
    for kind, templates in found.items():
        kinds[kind] = []
        for template in templates:
            cut = [*re.split(r"\{(\w+)\}", template), ""]
            pairs = zip(cut[::2], cut[1::2], strict=True)
            kinds[kind].append([(text, slot.lower(), slot[:1].isupper()) for text, slot in pairs])
    return kinds, words


def written(want: Wanted, voice: Voice) -> str:
    """The whole text of an answer in the form that is wanted."""
    if want.form == "text":
        return voice.say("statement", 3)
    if want.form == "thought":
        return f"<think>\n{voice.say('thought', 3)}\n</think>\n\n{voice.say('statement', 3)}"
    if want.form == "schema":
        return orjson.dumps(of_schema(want.schema or {}, voice)).decode()
    return orjson.dumps(BUILDERS[want.form](want, voice)).decode()


def _dialogue(want: Wanted, voice: Voice) -> dict[str, Any]:
    turns = []
    for _ in range(want.turns):
        turns.append({"role": "user", "content": voice.say("question")})
        turns.append({"role": "assistant", "content": voice.say("statement", 2)})
    return {"turns": turns}


BUILDERS: dict[str, Callable[[Wanted, Voice], dict[str, Any]]] = {
    "texts": lambda want, voice: {"texts": [voice.say("question") for _ in range(want.items)]},
    "pairs": lambda want, voice: {
        "pairs": [{"question": voice.say("question"), "answer": voice.say("statement", 2)} for _ in range(want.items)]
    },
    "dialogues": lambda want, voice: {"dialogues": [_dialogue(want, voice) for _ in range(want.items)]},
    "instructions": lambda want, voice: {
        "instructions": [
            {"instruction": voice.say("instruction"), "input": voice.say("input") if voice.number(0, 2) == 0 else ""}
            for _ in range(want.items)
        ]
    },
    "score": lambda want, voice: {"score": voice.number(1, 10), "reason": voice.say("reason")},
    "winner": lambda want, voice: {
        "winner": ("A", "B", "tie")[voice.number(0, 2)],
        "reason": voice.say("reason"),
    },
}


def of_schema(schema: Mapping[str, Any], voice: Voice, depth: int = 0) -> Any:
    """A value that keeps a simple JSON Schema: objects, arrays, strings, numbers, enum, const, anyOf."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][voice.number(0, len(schema["enum"]) - 1)]
    for either in ("anyOf", "oneOf"):
        if schema.get(either):
            return of_schema(schema[either][0], voice, depth)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0]
    if depth > 8 or kind == "null":
        return None
    if kind == "object":
        return {name: of_schema(part, voice, depth + 1) for name, part in (schema.get("properties") or {}).items()}
    if kind == "array":
        count = int(schema.get("minItems") or min(DEFAULT_ITEMS, schema.get("maxItems", DEFAULT_ITEMS)))
        return [of_schema(schema.get("items") or {}, voice, depth + 1) for _ in range(count)]
    if kind in ("integer", "number"):
        low = int(schema.get("minimum", 1))
        return voice.number(low, int(schema.get("maximum", low + 9)))
    return bool(voice.number(0, 1)) if kind == "boolean" else voice.say("statement")
