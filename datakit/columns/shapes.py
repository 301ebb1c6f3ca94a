"""What a line of each training format is made of: the columns that the row path's writers write, part by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# kind of record -> the parts of an alpaca row that it must have besides the prompt (keys of dataset_info.json)
ANSWERS: dict[str, tuple[str, ...]] = {
    "chat": ("response",),
    "feedback": ("response", "kto_tag"),
    "preference": ("chosen", "rejected"),
}
# parts that a record may have beside them, each as text
EXTRAS = ("system", "tools")


@dataclass(frozen=True, slots=True)
class Turn:
    """One message: ``who`` says the text of ``part``."""

    who: str
    part: str


# column of the line -> the part that it holds as it is, one message, or a list of messages
Shape = Mapping[str, str | Turn | tuple[Turn, ...]]
# format -> the keys of a message
KEYS = {"sharegpt": ("from", "value"), "openai": ("role", "content")}


def shape_of(to_format: str, kind: str, extras: frozenset[str]) -> Shape | None:
    """The line of one record of ``kind`` with ``extras`` (of ``system`` and ``tools``); None where only rows will do."""
    shapes = {"alpaca": _alpaca, "sharegpt": _sharegpt, "openai": _openai}
    return shapes[to_format](kind, extras) if to_format in shapes and kind in ANSWERS else None


def _alpaca(kind: str, extras: frozenset[str]) -> Shape:
    answers = {"chosen": "chosen", "rejected": "rejected"} if kind == "preference" else {"output": "response"}
    return {"instruction": "instruction", "input": "input", **answers, **_beside(kind, extras)}


def _sharegpt(kind: str, extras: frozenset[str]) -> Shape:
    question = Turn("human", "question")
    if kind == "preference":
        pair = {side: Turn("gpt", side) for side in ("chosen", "rejected")}
        return {"conversations": (question,), **pair, **_beside(kind, extras)}
    return {"conversations": (question, Turn("gpt", "response")), **_beside(kind, extras)}


def _openai(kind: str, extras: frozenset[str]) -> Shape | None:
    if "tools" in extras:  # text there, an object here
        return None
    asked = (*((Turn("system", "system"),) if "system" in extras else ()), Turn("user", "question"))
    if kind == "preference":
        return {"messages": asked, **{side: Turn("assistant", side) for side in ("chosen", "rejected")}}
    return {"messages": (*asked, Turn("assistant", "response")), **_beside(kind, frozenset())}


def _beside(kind: str, extras: frozenset[str]) -> Shape:
    named = {name: name for name in EXTRAS if name in extras}
    return named | ({"kto_tag": "kto_tag"} if kind == "feedback" else {})
