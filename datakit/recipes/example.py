"""Values to show a prompt with, when no seed of the user's is at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datakit.recipes.recipe import Prompt

# language -> (system, question, answer) of conversations; other languages are shown with the English ones.
_CHATS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "en": (
        (
            "You answer customers of a bicycle shop.",
            "How often should I oil the chain?",
            "Every 200 km, and after each ride in the rain.",
        ),
        ("", "Write a headline for a sale of winter gloves.", "Warm hands, cool prices: gloves from 9 euros."),
        ("", "What is 15% of 80?", "15% of 80 is 12."),
    ),
    "zh": (
        ("你负责解答自行车店顾客的问题。", "链条多久上一次油？", "每骑200公里上一次，淋雨之后也要上。"),
        ("", "给冬季手套促销写一个标题。", "暖手不烫手：手套9元起。"),
        ("", "80的15%是多少？", "80的15%是12。"),
    ),
}
_TEXTS = {
    "en": "The Norvik 300 holds 40 litres. Without power it stays below 8 °C for six hours if the door is kept shut.",
    "zh": "诺维300的容积为40升。断电后只要不开门，六小时内箱内温度不会超过8度。",
}
_ASKED = {"en": "Which tyres suit gravel?", "zh": "碎石路用什么轮胎？"}
_OTHERS = {"en": ("Every 200 km.", "Once a year is enough."), "zh": ("每200公里一次。", "一年一次就够了。")}


def example_values(prompt: Prompt, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a run would pass to ``prompt`` for a seed of its kind, with one row made before.

    ``given`` are inputs; those that must be given and are not stand as ``<name>``.
    """
    language = prompt.language if prompt.language in _CHATS else "en"
    chats = [_chat(*texts) for texts in _CHATS[language]]
    inputs = {**prompt.inputs, **(given or {})}
    seeds: dict[str, dict[str, Any]] = {
        "chat": {"seed": chats[0]},
        "text": {"seed": {"text": _TEXTS[language]}},
        "pool": {"pool": chats},
    }
    ways = prompt.data.get("ways", {})
    return {
        "n": prompt.per_call,
        "already": (_ASKED[language],),
        "texts": _CHATS[language][0],
        "answer_a": _OTHERS[language][0],
        "answer_b": _OTHERS[language][1],
        "way": next(iter(ways), ""),
        "topic": next(iter(prompt.data.get("topics", ())), ""),
        **{name: f"<{name}>" if value is None else value for name, value in inputs.items()},
        **seeds.get(prompt.seeds, {}),
    }


def _chat(system: str, question: str, answer: str) -> dict[str, Any]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"system": system, "turns": turns, "question": question, "answer": answer, "is_single": True}
