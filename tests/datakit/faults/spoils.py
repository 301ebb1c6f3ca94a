"""Actions that spoil the answer itself: cut, huge, empty, wrapped, echoed, refused, in the wrong language."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Literal

import orjson

from tests.datakit.faults.answers import Marked, Parrot, Writer, written
from tests.datakit.faults.asked import Asked, Reply, completed, text_of
from tests.datakit.faults.wanted import content_text


def length(asked: Asked) -> Reply:
    """The first half of the answer, with finish_reason length."""
    text = text_of(asked)
    return completed(asked, [text[: len(text) // 2]], finish="length")


@lru_cache(maxsize=4)
def _filler(megabytes: float) -> str:
    return ("All work and no play. " * 50_000)[: (1024 * 1024)] * int(megabytes) + "." * int(megabytes % 1 * 1048576)


def huge(asked: Asked, *, megabytes: float = 8) -> Reply:
    """An answer of that many MiB, in the form that is wanted."""
    want = replace(asked.wanted, items=1, turns=1)
    return completed(asked, [written(want, Parrot(_filler(megabytes)))])


def empty(asked: Asked) -> Reply:
    """An answer without a character."""
    return completed(asked, [""])


def say(asked: Asked, *, text: str, bare: bool = False, finish: str = "stop") -> Reply:
    """A text of yours in each place of the form that is wanted; ``bare``: as the whole answer."""
    return completed(asked, [text if bare else text_of(asked, Parrot(text))], finish)


def echo(asked: Asked, *, bare: bool = False) -> Reply:
    """The prompt comes back, in the form that is wanted or bare."""
    return say(asked, text=content_text(asked.messages[-1].get("content")), bare=bare)


def duplicate(asked: Asked) -> Reply:
    """One and the same answer to whatever is asked in one form and language."""
    return completed(asked, [text_of(asked, Writer(b"always the same", asked.wanted.language))])


def refusal(asked: Asked, *, bare: bool = False) -> Reply:
    """The model declines, inside the form that is wanted or bare."""
    chinese = asked.wanted.language == "zh"
    return say(
        asked, text="抱歉，我无法协助完成这个请求。" if chinese else "I'm sorry, but I can't help with that.", bare=bare
    )


def placeholder(asked: Asked) -> Reply:
    """Each text ends in a slot that was never filled."""
    return completed(asked, [text_of(asked, Marked(asked.writer(), " [Your Name Here]"))])


def wrong_language(asked: Asked) -> Reply:
    """Chinese where English is wanted, and the other way round."""
    other = "en" if asked.wanted.language == "zh" else "zh"
    return completed(asked, [text_of(asked, Writer(asked.content, other))])


def python(asked: Asked, *, evil: bool = False) -> Reply:
    """The answer as a Python expression; ``evil``: one that leaves a file ``evaluated`` behind where it is run."""
    if evil:
        return completed(asked, ["__import__('pathlib').Path('evaluated').touch() or {}"])
    text = text_of(asked)
    try:
        return completed(asked, [repr(orjson.loads(text))])
    except orjson.JSONDecodeError:
        return completed(asked, [repr(text)])


def cut_answer(asked: Asked, *, keep: float = 0.6) -> Reply:
    """The answer's text stops in the middle, with finish_reason stop; ``keep``: the share that is left."""
    text = text_of(asked)
    return completed(asked, [text[: int(len(text) * keep)]])


def wrapped(asked: Asked, *, how: Literal["fences", "prose", "think"] = "fences") -> Reply:
    """The honest answer inside a code fence, between two sentences, or behind a think block."""
    text = text_of(asked)
    forms = {
        "fences": f"```json\n{text}\n```",
        "prose": f"Sure, here is what you asked for:\n\n{text}\n\nLet me know if you need more.",
        "think": f"<think>\nLet me see what is wanted: {{a list}}, I think.\n</think>\n\n{text}",
    }
    return completed(asked, [forms[how]])


def reasoning(asked: Asked) -> Reply:
    """The honest answer, with thoughts beside it in ``reasoning_content``."""
    return completed(asked, [text_of(asked)], thoughts=asked.writer(1).say("thought", 2))


def unparsable(asked: Asked) -> Reply:
    """Sentences where JSON is wanted; nothing in them that could be mended."""
    return completed(asked, [asked.writer().say("statement", 2)])
