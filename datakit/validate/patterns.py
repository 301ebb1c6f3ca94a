"""The pack of patterns that the text rules look for, read from patterns.yaml and spelled for Rust and for Python."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

# What may stand before an answer's first words: white space, a quotation mark, or what the model thought.
ANSWER_START = r"\A[ \t\r\n]*(?:<think>(?s:.*?)</think>[ \t\r\n]*)?[\"“'*>]{0,2}[ \t]*"
EDGES = {
    "": ("", ""),
    "word": (r"(?<![0-9A-Za-z_])", r"(?![0-9A-Za-z_])"),
    "number": (r"(?<![0-9A-Za-z_])(?<![0-9][.,/:-])", r"(?![0-9A-Za-z_])(?![.,/:-][0-9])"),
}
# The regex engine finds the best way for up to so many strings at once: 12 ms for 32 MB, 26 ms with twice as many.
LITERALS_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Pattern:
    """One entry of patterns.yaml, whose head says what the fields mean.

    ``regex`` is for Rust and finds at least every text that ``exact``, for Python, finds a match in: the edges are
    only in the second. ``characters`` are spelled out.
    """

    code: str
    name: str
    regex: str
    exact: str
    characters: str
    literals: tuple[str, ...]
    sieve: str
    answers: bool
    confirm: str
    opt_in: bool
    match: tuple[str, ...]
    no_match: tuple[str, ...]

    @property
    def located(self) -> re.Pattern[str]:
        """``exact``, compiled when it is first needed: most patterns match nothing in most runs."""
        return re.compile(self.exact)


@dataclass(frozen=True, slots=True)
class Sieve:
    """A cheap Rust regex, and the patterns that cannot be in a text which does not pass it."""

    regex: str
    patterns: tuple[Pattern, ...]


@cache
def all_patterns() -> tuple[Pattern, ...]:
    """Every entry, in the order of the file: the first has the first claim on text that two of them match."""
    pack = _pack()
    return tuple(_pattern(entry, pack["parts"]) for entry in pack["patterns"])


@cache
def known_values(name: str) -> frozenset[str]:
    """A list of values that stand for nobody and nothing, such as ``cards`` or ``mail_domains``."""
    return frozenset(str(value) for value in _pack()["lists"][name])


@cache
def iban_lengths() -> Mapping[str, int]:
    """Characters in an IBAN by its country."""
    lengths: dict[str, int] = _pack()["iban_lengths"]
    return lengths


def chosen_patterns(codes: Collection[str] | None) -> tuple[Pattern, ...]:
    """The entries with one of ``codes``; without ``codes`` all but those that run only when asked for."""
    if codes is None:
        return tuple(pattern for pattern in all_patterns() if not pattern.opt_in)
    return tuple(pattern for pattern in all_patterns() if pattern.code in codes)


def sieves_of(patterns: Sequence[Pattern]) -> list[Sieve]:
    """As few cheap regexes as sift the texts for all of ``patterns``; a pattern may be behind several of them."""
    behind: dict[str, list[Pattern]] = {}
    strings: list[tuple[str, Pattern]] = []
    for pattern in patterns:
        if pattern.literals:
            strings += [(literal, pattern) for literal in pattern.literals]
            continue
        for regex in _by_width(pattern.characters) if pattern.characters else [pattern.sieve or pattern.regex]:
            behind.setdefault(regex, []).append(pattern)
    for at in range(0, len(strings), LITERALS_AT_ONCE):
        some = strings[at : at + LITERALS_AT_ONCE]
        behind[_any_of(literal for literal, _ in some)] = list(dict.fromkeys(pattern for _, pattern in some))
    return [Sieve(regex, tuple(served)) for regex, served in behind.items()]


def _by_width(characters: str) -> list[str]:
    widths: dict[int, list[str]] = {}
    for character in characters:
        widths.setdefault(len(character.encode()), []).append(character)
    return [_any_of(same) for same in widths.values()]


def _any_of(strings: Iterable[str]) -> str:
    # The brackets keep Rust from making a class of single characters: a class of more than ten is searched byte by
    # byte (65 ms for 32 MB), so many strings by vector instructions (5 to 13 ms).
    return "|".join(f"({re.escape(string)})" for string in dict.fromkeys(strings))


def _pattern(entry: Mapping[str, Any], parts: Mapping[str, str]) -> Pattern:
    characters = str(entry.get("characters", ""))
    raw = f"[{characters}]+" if characters else entry["regex"]
    regex = raw if isinstance(raw, str) else "|".join(f"(?:{alternative})" for alternative in raw)
    regex = _filled_in(regex, parts)
    before, after = EDGES[entry.get("edges", "")]
    exact = f"{before}(?:{regex}){after}"
    if entry.get("start"):
        exact = f"{ANSWER_START}(?P<hit>{regex}){after}"
        regex = f"{ANSWER_START}(?:{regex})"
    # Rust only sifts, and without upper bounds it sifts a little more but compiles faster: a private key in 1 ms, not 14.
    regex = re.sub(r"\{([0-9]+),[0-9]+\}", lambda bounds: "*" if bounds[1] == "0" else f"{{{bounds[1]},}}", regex)
    return Pattern(
        code=entry["code"],
        name=entry["name"],
        regex=regex,
        exact=exact,
        characters=_spelled_out(characters),
        literals=tuple(entry.get("literals", ())),
        sieve=_filled_in(entry.get("sieve", ""), parts),
        answers=bool(entry.get("answers")),
        confirm=entry.get("confirm", ""),
        opt_in=bool(entry.get("opt_in")),
        match=tuple(text.replace("¦", "") for text in entry["match"]),
        no_match=tuple(text.replace("¦", "") for text in entry["no_match"]),
    )


def _filled_in(regex: str, parts: Mapping[str, str]) -> str:
    while "<<" in regex:
        regex = re.sub("<<([a-z_]+)>>", lambda name: parts[name[1]], regex)
    return regex


def _spelled_out(characters: str) -> str:
    """``a-c`` → ``abc``."""
    return re.sub("(?s)(.)-(.)", lambda pair: "".join(map(chr, range(ord(pair[1]), ord(pair[2]) + 1))), characters)


@cache
def _pack() -> dict[str, Any]:
    text = (files("datakit.validate") / "patterns.yaml").read_text(encoding="utf-8")
    pack: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return pack
