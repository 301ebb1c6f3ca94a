"""Filters that look at one row and its seeds: empty, echo, language, length and score; each tells what it found, or None."""

from __future__ import annotations

from datakit.augment.filters.candidate import Candidate
from datakit.augment.filters.language import has_prose, is_other, language_of, names_language
from datakit.augment.filters.parts import Part, compared_value, exchanges_of, without_thoughts
from datakit.augment.filters.plan import AS_SEEDS, Rules
from datakit.dedup.normal import key_of, normal_text
from datakit.dedup.spool import jaccard
from datakit.validate.faults import is_blank

ECHO = 0.9  # Jaccard similarity of a row and its seed
LEAST_SHINGLES = 5  # of a row whose likeness to its seed is measured; shorter ones must be equal
MANY_TIMES = 20  # as long as the longest answer of the seeds
MANY_CHARS = 20_000


def empty(row: Candidate, rules: Rules) -> str | None:
    """A turn without anything to read, or an answer that is all thoughts."""
    if not row.parts:
        return "there is no turn"
    spoken = (part for part in row.parts if part.is_speech)  # a tool may well return nothing
    blank = next((part for part in spoken if is_blank(without_thoughts(part.text))), None)
    return None if blank is None else f"the {blank.name} is empty"


def echo(row: Candidate, rules: Rules) -> str | None:
    """A row that says its seed again, or whose answer is its question; what a seed does itself is let pass."""
    if rules.echo and (found := _of_seed(row, rules)):
        return found
    new = set(row.new)
    for asked, answer in exchanges_of(row.parts):
        if (asked in new or answer in new) and _repeats(asked, answer):
            by_design = any(_repeats(*exchange) for exchange in exchanges_of(row.seed_parts))
            return None if by_design else f"the {answer.name} repeats the question"
    return None


def _of_seed(row: Candidate, rules: Rules) -> str | None:
    if rules.echo == "exact" and not any(has_prose(part.text) for part in row.parts):
        return None  # there may be nothing to change in code and numbers
    own = key_of(_compared(row.made.record, rules), normalise=True)
    for seed, shingles in zip(row.seeds, row.seed_shingles, strict=True):
        assert seed.record is not None
        if key_of(_compared(seed.record, rules), normalise=True) == own:
            return "the seed's question again" if rules.questions else "the seed again"
        if rules.echo == "near" and row.shingles is not None and len(row.shingles) >= LEAST_SHINGLES:
            similarity = jaccard(row.shingles, shingles)
            if similarity >= ECHO:
                return f"{similarity:.2f} like its seed"
    if rules.echo == "near":
        return next((f"the {part.name} is the seed's text" for part in row.new if _is_seed_text(part, row)), None)
    return None


def _compared(record: object, rules: Rules) -> object:
    """What of a record tells it from its seed: the turns, whatever the system's text."""
    value = dict(compared_value(record, questions=rules.questions))  # type: ignore[arg-type]
    return value.get("turns", value)


def _is_seed_text(part: Part, row: Candidate) -> bool:
    """Whether a part is all of a plain text that the row was made from."""
    return any(seed.role == "text" and normal_text(seed.text) == normal_text(part.text) for seed in row.seed_parts)


def _repeats(asked: Part, answer: Part) -> bool:
    return normal_text(without_thoughts(answer.text)) == normal_text(asked.text)


def language(row: Candidate, rules: Rules) -> str | None:
    """A new text that is clearly in another language. An answer may be in one that the question, or the seed, asks for."""
    if rules.language is None:
        return None
    for part in row.new:
        found = language_of(part.text) if part.is_speech else None
        expected = _expected(part, row, rules) if found is not None else None
        if found is not None and expected is not None and is_other(found, expected):
            return f"{found}, not {expected} ({part.name})"
    return None


def _expected(part: Part, row: Candidate, rules: Rules) -> str | None:
    """The language that a part must be in; None where it is free."""
    spoken = {language_of(seed.text) for seed in row.seed_parts if seed.is_speech} - {None}
    if part.is_answer:
        asked = [other.text for other in row.parts if not other.is_answer]
        if len(spoken) > 1 or any(names_language(text) for text in asked):
            return None
    if rules.language != AS_SEEDS:
        return rules.language
    return next(iter(spoken)) if len(spoken) == 1 else None


def length(row: Candidate, rules: Rules) -> str | None:
    """New texts beyond the bounds; and whatever they are, an answer that runs away.

    That is one of more than ``MANY_CHARS`` characters that is ``MANY_TIMES`` as long as the longest answer of its
    seeds (where they have none: as their longest text; where there are none: however long).
    """
    if not row.new:
        return None
    options = rules.options
    chars = sum(len(part.text) for part in row.new)
    if options.min_chars is not None and chars < options.min_chars:
        return f"{chars:,} characters, fewer than {options.min_chars:,}"
    if options.max_chars is not None and chars > options.max_chars:
        return f"{chars:,} characters, more than {options.max_chars:,}"
    known = [part for part in row.seed_parts if part.is_answer and not is_blank(part.text)] or row.seed_parts
    longest = max((len(part.text) for part in known), default=0)
    for part in row.new:
        if part.is_answer and len(part.text) > max(MANY_CHARS, MANY_TIMES * longest):
            than = f"more than {MANY_TIMES} times the seed's" if longest else f"more than {MANY_CHARS:,}"
            return f"{len(part.text):,} characters in one {part.name}, {than}"
    return None


def score(row: Candidate, rules: Rules) -> str | None:
    """A judge's score below the threshold; rows that no judge saw pass."""
    least, given = rules.options.min_score, row.made.notes.get("score")
    if least is None or not isinstance(given, int | float) or given >= least:
        return None
    return f"{given:g}, below {least:g}"


def duplicate(row: Candidate, rules: Rules) -> str | None:
    """Equal, when normalised, to a seed, a row of another file, or an earlier row that is kept."""
    return f"the same as {row.twin.other}" if row.twin is not None and row.twin.exact else None


def near_duplicate(row: Candidate, rules: Rules) -> str | None:
    """As near as the threshold to a seed, a row of another file, or an earlier row that is kept."""
    if row.twin is None or row.twin.exact:
        return None
    return f"{row.twin.similarity:.2f} like {row.twin.other}"
