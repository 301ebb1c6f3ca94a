"""What is asked for: which duplicates, compared by what, and against which other files; checked as a whole."""

from __future__ import annotations

from dataclasses import dataclass

from datakit.dedup.bands import Bands, bands_for
from datakit.dedup.fields import parse_names
from datakit.dedup.overlap import ANY
from registry.errors import UsageError

DEFAULT_NGRAM = 13  # tokens: Brown et al. 2020, Language Models are Few-Shot Learners, appendix C
DEFAULT_SHINGLE = 3
MOST_TOKENS = 1000  # in an n-gram


@dataclass(frozen=True, slots=True)
class Plan:
    """``near`` is a Jaccard similarity, ``least`` a share of an evaluation row's n-grams; None is none, and any."""

    names: tuple[str, ...] = ()
    exact: bool = True
    normalise: bool = True
    near: float | None = None
    shingle: int = DEFAULT_SHINGLE
    ngram: int = DEFAULT_NGRAM
    least: float | None = None
    decontaminate: bool = False

    @property
    def bands(self) -> Bands | None:
        """Of the MinHash signatures that find near duplicates at the threshold."""
        return None if self.near is None else bands_for(self.near)


def make_plan(
    *,
    on: str | None,
    exact: bool,
    raw: bool,
    near: float | None,
    shingle: int,
    ngram: int,
    overlap: str | float,
    with_others: bool,
    with_evaluation: bool,
) -> Plan:
    """The plan for these options. Raises ``UsageError`` for values beyond their range, and where nothing is to be done."""
    if near is not None and not 0 < near <= 1:
        raise UsageError(
            "a threshold is a similarity above 0 and up to 1", where=f"--near {near:g}", mend="For example --near 0.8"
        )
    for flag, size in (("--shingle", shingle), ("--ngram", ngram)):
        if not 1 <= size <= MOST_TOKENS:
            raise UsageError(f"a number of tokens from 1 to {MOST_TOKENS:,} belongs here", where=f"{flag} {size}")
    least = _share(overlap)
    if least is not None and not with_evaluation:
        raise UsageError("there is nothing to overlap with", where="--overlap", mend="Name it: --decontaminate FILE")
    if not exact and near is None and not with_evaluation:
        raise UsageError("nothing is to be looked for", where="--no-exact", mend="Add --near or --decontaminate.")
    if not exact and near is None and with_others:
        raise UsageError(
            "rows are compared with nothing", where="--against", mend="Add --near, or leave --no-exact out."
        )
    return Plan(parse_names(on), exact, not raw, near, shingle, ngram, least, with_evaluation)


def _share(overlap: str | float) -> float | None:
    """``"any"`` → None, ``0.5`` and ``"50%"`` → 0.5."""
    text = str(overlap).strip().casefold()
    if text == ANY:
        return None
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise UsageError(
            "any, or a share above 0 and up to 1, belongs here",
            where=f"--overlap {overlap}",
            mend="any drops a row that shares a single n-gram; 0.5 one that holds half of an evaluation row's n-grams.",
        )
    return share
