"""From an answer's text to the JSON in it: out of fences and prose, mended where it is broken, cut back where it was cut."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import orjson

MOST_CHARACTERS = 4_000_000  # of an answer; the longest that models give are a tenth of it
# Characters looked at while mending. json_repair needs 2 for each character of an ordinary answer, but some short texts
# (10,000 times [") keep it busy for half a minute.
MOST_STEPS = 500_000
COPIED_IN_A_STEP = 100
MOST_MENDED = 120_000  # characters; the time for the worst of them grows with the square, to 2 s for these
MOST_MESSAGE = 300
_THINK, _THOUGHT = "<think>", "</think>"
_END_OF_THOUGHT = re.compile(r"</think>[ \t\r]*\n")
# Where JSON, or what was meant as such, begins; "[1]" or "{name}" in prose is none.
_START = re.compile(r"\{\s*(?:[\"'“‘}]|//|/\*|[A-Za-z_]\w*\s*[:：])|\[\s*(?:[\"'“‘{\[\]]|//|/\*)")
_FENCE = re.compile(r"```\w*\s*$")
_QUOTES = "\"'“”‘’`"
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_CLOSED_BY = {"[": "]", "{": "}"}
_EDGE = 4  # characters at each end of a text that must stand beside a quotation mark
_NOT_PLAIN = re.compile(r"[\x00-\x1f\x7f\\" + _QUOTES + "]")


class Unparsable(Exception):
    """An answer that does not have the form asked for. ``str()`` tells what and where, fit to be sent to the model."""

    def __init__(self, message: str) -> None:
        self.message = message if len(message) <= MOST_MESSAGE else message[: MOST_MESSAGE - 1] + "…"
        super().__init__(self.message)


def check_length(text: str) -> None:
    """Raise ``Unparsable`` for what no model writes as one answer."""
    if len(text) > MOST_CHARACTERS:
        raise Unparsable(f"the answer is {len(text):,} characters long; {MOST_CHARACTERS:,} are the most that is read")


def without_thoughts(text: str) -> tuple[str, str]:
    """The reasoning that a text begins with (``<think>…</think>``) and what follows it; empty where there is none.

    Servers that begin the reasoning in the prompt leave out the first tag; the last one then ends a line, which in JSON
    or in a sentence about such tags it hardly does. Raises ``Unparsable`` where the reasoning has no end.
    """
    text = text.strip()
    if text.startswith(_THINK):
        thoughts, end, rest = text.removeprefix(_THINK).partition(_THOUGHT)
        if not end:
            raise Unparsable(f"{_THINK} is never closed: {_THOUGHT} and the answer are missing")
        return thoughts.strip(), rest.strip()
    end_of_line = _END_OF_THOUGHT.search(text)
    if end_of_line and _THINK not in text[: end_of_line.start()]:
        return text[: end_of_line.start()].strip(), text[end_of_line.end() :].strip()
    return "", text


def json_values(text: str, *, was_cut: bool) -> tuple[list[Any], bool]:
    """The JSON objects and lists that an answer holds, one behind the other, and whether they had to be mended.

    JSON as it should be is taken first. Then reasoning, code fences and prose around it are left aside. Only what is
    still no JSON goes through json_repair, which also reads Python's literals; nothing is ever evaluated. Where an
    answer ``was_cut`` off, the whole items before the cut are kept.

    Raises ``Unparsable``.
    """
    check_length(text)
    text = text.strip()
    try:
        return [orjson.loads(text)], False
    except orjson.JSONDecodeError:
        pass
    _, text = without_thoughts(text)
    if not text:
        raise Unparsable("the answer is empty")
    values, first, broken = _in_prose(text)
    if broken is None:
        if not values:
            raise Unparsable("there is no JSON in the answer")
        return values, False
    if was_cut:
        return [_loaded(_whole_items(text[broken:]))], True
    begin = first if first is not None else broken
    fence = _FENCE.search(text, 0, begin)
    end = text.rfind("```", begin) if fence else -1
    return [repaired(text[begin:] if end < 0 else text[begin:end])], True


def _in_prose(text: str) -> tuple[list[Any], int | None, int | None]:
    """The values that stand in a text, where the first begins, and where one begins that is broken."""
    decoder = json.JSONDecoder()
    values: list[Any] = []
    at, first = 0, None
    while found := _START.search(text, at):
        try:
            value, at = decoder.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            return values, first, found.start()
        values.append(_plain(value))
        first = found.start() if first is None else first
    return values, first, None


def _loaded(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return repaired(text)


def repaired(text: str) -> Any:
    """The object or list that broken JSON, or Python's spelling of it, was meant to be.

    Raises ``Unparsable`` where nothing is found, where it takes too long, and where a text of the result stood without
    quotation marks: then it is a guess of the parser (``f()``, or a text that the answer broke off in).
    """
    import json_repair

    if len(text) > MOST_MENDED:
        raise Unparsable(f"the JSON cannot be read, and {len(text):,} characters are too many to be mended")
    try:
        value = json_repair.loads(_Metered.of(text), skip_json_loads=True)
    except RecursionError:
        raise Unparsable("the JSON is nested too deep") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        what = "it is nested too deep" if "nesting" in str(error) else "it is too broken to be mended"
        raise Unparsable(f"the JSON cannot be read: {what}") from None
    if not isinstance(value, dict | list) or not value:
        raise Unparsable("there is no JSON in the answer")
    value = _plain(value)
    _check_quoted(value, text)
    return value


def _plain(value: Any) -> Any:
    """What other parsers than orjson gave, as orjson gives it. Raises ``Unparsable`` for what it would not take."""
    try:
        return orjson.loads(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))  # keys may be _Metered
    except orjson.JSONEncodeError as error:
        if "surrogates" in str(error):
            what = r"an escape such as \ud83d spells half a character; write the character itself"
        else:
            what = "it is nested too deep" if "ecursion" in str(error) else "a number is too large"
        raise Unparsable(f"the JSON cannot be read: {what}") from None


class _Metered(str):
    """A text that counts how often it is looked at, and ends it with a ``ValueError``."""

    __slots__ = ("_left",)
    _left: list[int]

    @classmethod
    def of(cls, text: str, left: list[int] | None = None) -> _Metered:
        metered = cls(text)
        metered._left = left if left is not None else [MOST_STEPS]
        return metered

    def __getitem__(self, key: Any) -> str:
        found = super().__getitem__(key)
        if not isinstance(key, slice):
            self._count(1)
            return found
        self._count(1 + len(found) // COPIED_IN_A_STEP)
        return _Metered.of(found, self._left)

    def __add__(self, other: str) -> _Metered:  # the parser puts missing brackets into its text
        self._count(1 + len(self) // COPIED_IN_A_STEP)
        return _Metered.of(super().__add__(other), self._left)

    def _count(self, steps: int) -> None:
        self._left[0] -= steps
        if self._left[0] < 0:
            raise ValueError("too many steps")


def _check_quoted(value: Any, text: str) -> None:
    """Raise ``Unparsable`` for a text of ``value`` that does not begin and end at a quotation mark in ``text``."""
    begins: set[str] = set()
    ends: set[str] = set()
    for quote in re.finditer(f"[{_QUOTES}]", text):
        at = quote.start()
        begins.update(text[at + 1 : at + 1 + length] for length in range(1, _EDGE + 1))
        ends.update(text[max(at - length, 0) : at] for length in range(1, _EDGE + 1))
    for said in _texts_in(value):
        plain = _unescaped(said, text)
        head, tail = _NOT_PLAIN.split(plain[:_EDGE], maxsplit=1)[0], _NOT_PLAIN.split(plain[-_EDGE:])[-1]
        if head and head not in begins:
            raise Unparsable(f"the JSON is broken: {_shown(said)} is no text in quotation marks")
        if tail and tail not in ends:
            raise Unparsable(f"the JSON is broken: no quotation mark ends the text {_shown(said)}")


def _unescaped(said: str, text: str) -> str:
    """``said`` as it may stand in ``text``: with escapes, where the answer uses them for all but ASCII."""
    if said.isascii() or (said[:1] in text and said[-1:] in text):
        return said.strip()
    return json.dumps(said)[1:-1].strip()


def _texts_in(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _shown(said: str) -> str:
    return json.dumps(said if len(said) <= 40 else said[:40] + "…", ensure_ascii=False)


def _whole_items(text: str) -> str:
    """JSON that was cut off, ended behind the last whole item of its list. Raises ``Unparsable`` where there is none."""
    opened: list[str] = []
    depth: int | None = None  # of the list whose items count
    end, closers = 0, ""
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if sign in "[{":
            opened.append(sign)
            if depth is None and sign == "[" and len(opened) <= 2:
                depth = len(opened)
            continue
        if sign in "]}":
            if not opened or sign != _CLOSED_BY[opened.pop()]:
                break
        elif len(sign) < 2 or not sign.endswith('"'):
            break  # the cut went through this text
        if depth is not None and len(opened) == depth:
            end, closers = token.end(), "".join(_CLOSED_BY[sign] for sign in reversed(opened))
        elif depth is not None and len(opened) < depth:
            break
    if not end:
        raise Unparsable("the answer was cut off before its first item was whole")
    return text[:end] + closers
