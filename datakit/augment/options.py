"""What a run of augment is asked to do, checked by itself before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datakit.augment.budget import Limits
from datakit.augment.shaping import STRUCTURED
from datakit.layout import AUTO
from registry.errors import UsageError, did_you_mean, known_hint
from registry.formats import LAYOUTS, WRITERS

STORE_ENDING = ".store.sqlite"
DROPS_ENDING = ".drops.jsonl"


@dataclass(frozen=True)
class AugmentOptions:
    """Everything that `datakit augment` is told but sources and output. Times are in seconds, chunks in tokens.

    ``base_urls`` and the keys of the environment make the pool of accounts. ``values`` fill the recipe's inputs.
    ``limits`` are the budget. ``near`` None switches near duplicates off; ``allow`` are reasons that drop nothing.
    """

    recipe: str
    model: str
    provider: str = "openai"
    base_urls: tuple[str, ...] = ()
    n: int | None = None
    values: Mapping[str, str] = field(default_factory=dict)
    language: str = AUTO
    from_format: str = AUTO
    to_format: str = AUTO
    mapping: Mapping[str, str] = field(default_factory=dict)
    workers: int = 64
    rpm: float | None = None
    tpm: float | None = None
    timeout_s: float = 300.0
    attempts: int = 6
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    structured: str = AUTO
    store: Path | None = None
    fresh: bool = False
    retry_refused: bool = False
    limits: Limits = field(default_factory=Limits)
    price: str | None = None
    prices: Path | None = None
    judge: bool = False
    min_score: float | None = None
    against: tuple[str, ...] = ()
    near: float | None = 0.8
    min_chars: int | None = None
    max_chars: int | None = None
    allow: tuple[str, ...] = ()
    chunk_tokens: int = 1024
    chunk_overlap: int = 128
    tokenizer: Path | None = None
    seed: int = 42
    batch: bool = False
    origin: bool = True
    strict: bool = False

    def __post_init__(self) -> None:
        for where, text in (
            ("--model", self.model),
            *((f"--set {name}", value) for name, value in self.values.items()),
        ):
            if not str(text).isprintable() and any("\ud800" <= letter <= "\udfff" for letter in str(text)):
                raise UsageError("it is not UTF-8", where=where.encode("utf-8", "replace").decode())
        if not self.model:
            raise UsageError("no model is named", where="--model")
        if self.language not in (AUTO, "en", "zh") and not self.recipe.endswith(".md"):
            raise UsageError(f'recipes are not written in "{self.language}"', where="--language", mend="auto, en or zh")
        known = (AUTO, *WRITERS)
        if self.to_format not in known:
            mend = known_hint(self.to_format, known)
            raise UsageError(f'rows cannot be made as "{self.to_format}"', where="--to", mend=mend)
        if self.from_format not in (AUTO, *LAYOUTS):
            mend = f"{did_you_mean(self.from_format, LAYOUTS)} Known: auto, {', '.join(LAYOUTS)}.".lstrip()
            raise UsageError(f'unknown format "{self.from_format}"', where="--from", mend=mend)
        if self.structured not in STRUCTURED:
            raise UsageError(
                f'"{self.structured}" is not known', where="--structured", mend=f"One of {', '.join(STRUCTURED)}."
            )
        if not 0 <= self.chunk_overlap < self.chunk_tokens:
            raise UsageError(
                f"pieces of {self.chunk_tokens} tokens cannot overlap by {self.chunk_overlap}", where="--chunk-overlap"
            )
        if self.near is not None and not 0 < self.near <= 1:
            raise UsageError(
                f"{self.near:g} is no similarity", where="--near", mend="A number above 0, up to 1; off for none."
            )

    @property
    def sampling(self) -> dict[str, Any]:
        """What of the command line goes into the body of each request."""
        given = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}
        return {name: value for name, value in given.items() if value is not None}

    def as_json(self) -> dict[str, Any]:
        """For the manifest; keys are not among the options, so there is none to leave out."""
        limits = {f"budget_{name}": getattr(self.limits, name) for name in ("requests", "tokens", "cost", "minutes")}
        told = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "limits"}
        plain = {n: str(v) if isinstance(v, Path) else list(v) if isinstance(v, tuple) else v for n, v in told.items()}
        # "max_tokens" and "tokenizer" are no secrets, whatever their names look like.
        return {**plain, "values": dict(self.values), "mapping": dict(self.mapping), **limits}


def similarity(text: str) -> float | None:
    """What ``--near`` says: a number above 0, up to 1, or ``off``. Raises ``UsageError`` for anything else."""
    if text == "off":
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(
            f'"{text}" is no similarity', where="--near", mend="A number above 0, up to 1; off for none."
        ) from None
