"""What a run's rows are held to: the options of the user, and what the nature of the recipe makes of each filter."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from datakit.augment.filters.language import language_code
from registry.errors import UsageError, known_hint

# Why a made row is not kept, in the order in which it is looked for: the first one found is told.
REASONS: dict[str, str] = {
    "empty": "a turn without text",
    "invalid": "validate finds an error",
    "placeholder": "a placeholder left unfilled",
    "refusal": "an answer that refuses, or speaks of itself as an AI",
    "echo": "the seed or the question said again",
    "language": "in another language",
    "length": "too short or too long",
    "score": "a score below the threshold",
    "duplicate": "the same as another row",
    "near-duplicate": "nearly the same as another row",
}
NEAR = 0.8  # Jaccard similarity of rows from which one is a near duplicate
AS_SEEDS = "auto"  # the language of each row's own seeds


class Prompted(Protocol):
    """What is read of a recipe's prompt."""

    @property
    def seeds(self) -> str: ...
    @property
    def output(self) -> str: ...
    @property
    def makes(self) -> str: ...
    @property
    def data(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class FilterOptions:
    """``near`` is a Jaccard similarity above 0 (None, or 1 and more: near duplicates stay), ``language`` a code or name,
    ``auto`` for that of each row's seeds, or None for any; ``min_chars`` and ``max_chars`` are of a row's new texts
    together, ``min_score`` on the scale of the judge, and ``allow`` names reasons for which no row is dropped.

    Raises ``UsageError`` for values beyond their range.
    """

    near: float | None = NEAR
    language: str | None = AS_SEEDS
    min_chars: int | None = None
    max_chars: int | None = None
    min_score: float | None = None
    allow: Collection[str] = ()

    def __post_init__(self) -> None:
        if self.near is not None and not self.near > 0:
            raise UsageError(
                "a threshold is a similarity above 0", where=f"--near {self.near:g}", mend="1 switches it off."
            )
        for flag, bound in (("--min-chars", self.min_chars), ("--max-chars", self.max_chars)):
            if bound is not None and bound < 0:
                raise UsageError("a number of characters from 0 on belongs here", where=f"{flag} {bound}")
        if self.min_chars is not None and self.max_chars is not None and self.min_chars > self.max_chars:
            raise UsageError(
                "no text is as long as the one and as short as the other",
                where=f"--min-chars {self.min_chars} --max-chars {self.max_chars}",
            )
        for name in self.allow:
            if name not in REASONS:
                mend = known_hint(name, REASONS)
                raise UsageError(f'there is no filter "{name}"', where="--allow", mend=mend)


@dataclass(frozen=True, slots=True)
class Rules:
    """Options and recipe in one. ``echo`` is how near to its seed a row may not be: ``near``, ``exact`` or nothing.

    ``questions``: rows are compared by what the user says alone. ``within``, ``of_seeds``: duplicates are looked for
    among the rows made, and of the seeds. ``language`` is a code, ``auto``, or None.
    """

    options: FilterOptions
    questions: bool
    echo: str
    within: bool
    of_seeds: bool
    language: str | None
    codes_let_pass: frozenset[str] = frozenset()  # of validate's

    @property
    def near(self) -> float | None:
        """The threshold of near duplicates; None where they stay."""
        near = self.options.near
        return None if near is None or near >= 1 or "near-duplicate" in self.options.allow else near


def rules_for(prompt: Prompted, options: FilterOptions) -> Rules:
    """The rules for rows made by the recipe whose main prompt this is.

    Recipes that make new rows: all filters; where they ask a question anew and keep its answer (``texts`` out of
    ``chat``), rows are compared by their questions. Recipes that make each seed into a row: the row stands for its
    seed, so that duplicates are only looked for in other files, and an echo is a row that is its seed unchanged, where
    the recipe was to change it.
    """
    new = prompt.makes == "new"
    translates = not new and prompt.output == "texts"
    as_seeds = None if translates else AS_SEEDS  # a translation is not in the language of its seed
    given = options.language
    return Rules(
        options,
        questions=new and prompt.seeds == "chat" and prompt.output == "texts" and "ways" not in prompt.data,
        echo="near" if new else "exact" if prompt.output in ("texts", "thought", "dialogues") else "",
        within=new,
        of_seeds=new and prompt.seeds in ("chat", "pool"),
        language=as_seeds if given == AS_SEEDS else None if given is None else language_code(given),
        # Rows about who the model is say that it is an AI.
        codes_let_pass=frozenset({"RF003"}) if prompt.seeds == "none" else frozenset(),
    )
