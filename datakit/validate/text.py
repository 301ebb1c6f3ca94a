"""What should not stand in the texts of rows: placeholders, broken characters, refusals, keys, personal data."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING

from datakit.validate.confirm import CONFIRM
from datakit.validate.patterns import Pattern, Sieve, all_patterns, chosen_patterns, sieves_of

if TYPE_CHECKING:
    import polars

SURROGATE_CODE = "CH003"
HITS_PER_TEXT = 100  # of one pattern: a directory of a million addresses in one text is no million faults
TRIES_PER_TEXT = 10_000  # matches of one pattern that are looked at closely, so that no text can take minutes
_HALVES = re.compile("[\ud800-\udfff]+")


@cache
def text_codes() -> frozenset[str]:
    """The code of every rule of this module, those that run only when asked for included."""
    return frozenset({SURROGATE_CODE, *(pattern.code for pattern in all_patterns())})


@dataclass(frozen=True, slots=True, order=True)
class Hit:
    """One place where a rule matched: ``start`` to ``end`` (exclusive), in characters of the text at ``index``.

    It never holds what stands there: a key or a name that was found must not be copied into a report or a log.
    """

    index: int
    start: int
    end: int
    code: str


class TextRules:
    """The rules, ready to run over many texts at once.

    ``codes`` says which rules run; codes of other checks among them are passed over. None runs all but those that
    patterns.yaml keeps for whoever asks for them by name.
    """

    def __init__(self, codes: Collection[str] | None = None) -> None:
        chosen = () if codes == {SURROGATE_CODE} else chosen_patterns(codes)
        self._halves = codes is None or SURROGATE_CODE in codes
        self._rank = {pattern: rank for rank, pattern in enumerate(chosen)}
        self._anywhere = sieves_of([pattern for pattern in chosen if not pattern.answers])
        self._answers = sieves_of([pattern for pattern in chosen if pattern.answers])

    def scan(self, texts: Sequence[str], is_answer: Sequence[bool]) -> list[Hit]:
        """Every hit in ``texts``, by index, then start. ``is_answer`` says which texts the model is taught to say.

        At most ``HITS_PER_TEXT`` hits of one pattern in one text. Where two patterns of a family (the first two
        letters of their codes) claim the same characters, the one named first in patterns.yaml has them. What a
        text is found to hold does not depend on the other texts. Memory: about that of the texts in UTF-8.
        Raises ``ValueError`` where the two sequences differ in length.
        """
        import polars as pl

        if len(texts) != len(is_answer):
            raise ValueError(f"{len(texts)} texts, but {len(is_answer)} marks of answers")
        hits: list[Hit] = []
        try:
            column = pl.Series("text", texts, dtype=pl.String)
        except UnicodeEncodeError:
            texts, halves = _without_halves(texts)
            hits = halves if self._halves else []
            column = pl.Series("text", texts, dtype=pl.String)
        found = _sift(column, self._anywhere, None)
        if self._answers:
            answers = pl.Series(is_answer, dtype=pl.Boolean).arg_true()
            found |= _sift(column.gather(answers), self._answers, answers)
        claims: dict[tuple[int, str], list[tuple[int, int]]] = {}
        for pattern in sorted(found, key=self._rank.__getitem__):
            for index, values in found[pattern].items():
                claimed = claims.setdefault((index, pattern.code[:2]), [])
                hits += _located(pattern, texts[index], values, index, claimed)
        return sorted(hits)


def _sift(
    column: polars.Series, sieves: Sequence[Sieve], indices: polars.Series | None
) -> dict[Pattern, dict[int, list[str]]]:
    """By pattern and by place (or the one of ``indices`` at that place) what Rust finds in the texts, edges aside."""
    import polars as pl

    found: dict[Pattern, dict[int, list[str]]] = {}
    for sieve, passed in zip(sieves, _matching(column, [sieve.regex for sieve in sieves]), strict=True):
        if passed.is_empty():
            continue
        few = column.gather(passed)
        own = passed if indices is None else indices.gather(passed)
        values = few.to_frame().select(
            pl.col("text").str.extract_all(pattern.regex).alias(str(number))
            for number, pattern in enumerate(sieve.patterns)
        )
        for pattern, lists in zip(sieve.patterns, values, strict=True):
            places = (lists.list.len() > 0).arg_true()
            if not places.is_empty():
                pairs = zip(own.gather(places).to_list(), lists.gather(places).to_list(), strict=True)
                found.setdefault(pattern, {}).update(pairs)
    return found


def _matching(column: polars.Series, regexes: Sequence[str]) -> list[polars.Series]:
    """For each of ``regexes`` the places of the texts that it matches; polars runs them side by side."""
    import polars as pl

    flags = column.to_frame().select(
        pl.col("text").str.contains(regex).alias(str(number)) for number, regex in enumerate(regexes)
    )
    return [flag.arg_true() for flag in flags]


def _located(
    pattern: Pattern, text: str, values: Sequence[str], index: int, claimed: list[tuple[int, int]]
) -> list[Hit]:
    """The hits of ``pattern`` in one text, without those in ``claimed``, where the new ones are put."""
    confirm = CONFIRM[pattern.confirm] if pattern.confirm else None
    located = pattern.located
    group = "hit" if "hit" in located.groupindex else 0
    hits: list[Hit] = []
    for match in islice(_matches(located, text, values), TRIES_PER_TEXT):
        start, end = match.span(group)
        if any(start < other_end and other_start < end for other_start, other_end in claimed):
            continue
        if confirm is None or confirm(match):
            hits.append(Hit(index, start, end, pattern.code))
            if len(hits) == HITS_PER_TEXT:
                break
    claimed += [(hit.start, hit.end) for hit in hits]
    return hits


def _matches(located: re.Pattern[str], text: str, values: Sequence[str]) -> Iterator[re.Match[str]]:
    """What ``located.finditer(text)`` gives, 7 to 27 times faster where ``values`` are the matches of a wider pattern.

    They do not overlap and stand in order, so each is the next occurrence of its own characters, and no match
    begins before the first of them. Only where an edge rules one out, or cuts it, the text is searched from there.
    """
    reached = after = 0
    for value in values:
        start = text.index(value, reached)
        reached = start + len(value)
        while after < reached:
            match = located.match(text, start) if start >= after else None
            match = match or located.search(text, max(start + 1, after))
            if match is None:
                return
            yield match
            after = match.end()


def _without_halves(texts: Sequence[str]) -> tuple[list[str], list[Hit]]:
    """The texts with ``?`` for each half of a character, which no UTF-8 can hold, and where those stood."""
    whole, hits = list(texts), []
    for index, text in enumerate(texts):
        found = [] if text.isascii() else [match.span() for match in _HALVES.finditer(text)]
        if found:
            whole[index] = _HALVES.sub(lambda match: "?" * len(match[0]), text)
            hits += [Hit(index, start, end, SURROGATE_CODE) for start, end in found[:HITS_PER_TEXT]]
    return whole, hits
