"""Thoughts of models that think before they answer: which go, and where an empty one is written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from registry.records import Message
from registry.templates import Template


def without_thought(content: str, words: tuple[str, str]) -> str:
    """An answer without what stands between the two words, and without line breaks before the rest."""
    return _pattern(*words).sub("", content).lstrip("\n")


def has_thought(content: str, words: tuple[str, str]) -> bool:
    """Whether either of the words is in an answer, blanks around them aside."""
    return words[0].strip() in content or words[1].strip() in content


def empty_thought(template: Template) -> str:
    """What is written where an answer has no thought."""
    first, second = template.thought_words
    return second if template.thinking == "closing" else first + second


def settle_thoughts(
    messages: Sequence[Message],
    template: Template,
    *,
    enable: bool | None,
    preserve: bool,
    discard: bool,
    last_only: bool,
) -> tuple[list[Message], list[bool]]:
    """The messages with the thoughts that are to go taken out, and for each answer whether an empty thought is written.

    A conversation that is trained as a whole keeps its thoughts unless ``enable`` is False, or (all but the last)
    ``discard`` is set without ``preserve``. One that is there for its last answer (``last_only``) loses the earlier
    ones unless ``preserve``, as models are served. Then, as when discarding, only the last answer gets an empty
    thought. Source: LLaMA-Factory 0.9.5, its templates' ``encode_oneturn`` and ``encode_multiturn``.
    """
    words, num_answers = template.thought_words, len(messages) // 2
    earlier = not preserve and (last_only or discard)  # earlier thoughts go
    settled = list(messages)
    for number in range(num_answers):
        last = number == num_answers - 1
        gone = (enable is False and (last or not last_only)) or (earlier and not last)
        if gone:
            answer = messages[2 * number + 1]
            settled[2 * number + 1] = replace(answer, content=without_thought(answer.content, words))
    last_alone = last_only or earlier
    empty = [
        not has_thought(settled[2 * number + 1].content, words) and (not last_alone or number == num_answers - 1)
        for number in range(num_answers)
    ]
    return settled, empty


@cache
def _pattern(first: str, second: str) -> re.Pattern[str]:
    return re.compile(f"{re.escape(first)}.*?{re.escape(second)}", re.DOTALL)
