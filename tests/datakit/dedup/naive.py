"""What dedup promises, spelled as plainly as can be: normal forms, words, sets of n-grams and their similarity."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")


def folded(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def normal(value: Any) -> Any:
    """``value`` with every text in its normal form."""
    if isinstance(value, str):
        return " ".join(folded(value).split())
    if isinstance(value, dict):
        return {key: normal(inner) for key, inner in value.items()}
    return [normal(inner) for inner in value] if isinstance(value, list) else value


def canonical(value: Any) -> str:
    """Equal for what is equal but for the order of keys."""
    return json.dumps(value, sort_keys=True)


def words(text: str) -> list[str]:
    """Words, and single Chinese and Japanese characters."""
    return _WORD.findall(folded(text))


def ngrams(tokens: Sequence[str], size: int) -> set[tuple[str, ...]]:
    """Runs of ``size`` tokens; of a shorter text all of it."""
    if len(tokens) < size:
        return {tuple(tokens)} if tokens else set()
    return {tuple(tokens[at : at + size]) for at in range(len(tokens) - size + 1)}


def shingles(texts: Sequence[str], size: int) -> set[tuple[str, ...]]:
    """The n-grams of all texts of a row."""
    return set().union(*(ngrams(words(text), size) for text in texts))


def jaccard(one: set[Any], other: set[Any]) -> float:
    return len(one & other) / len(one | other) if one or other else 0.0
