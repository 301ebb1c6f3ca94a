"""The n-grams of rows: of all their texts, none reaching from one text into the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datakit.dedup.normal import folded
from datakit.dedup.tokens import Grams, Tokens, grams_of, tokens_of
from datakit.mixing import mix

if TYPE_CHECKING:
    import numpy as np

_REJECTED = 4  # beyond all labels


@dataclass(frozen=True, slots=True)
class TextGrams:
    """The n-grams of texts one by one, with the row that each belongs to (by index) and its length in tokens."""

    rows: np.ndarray
    lengths: np.ndarray
    grams: Grams


@dataclass(frozen=True, slots=True)
class RowTokens:
    """The tokens of the texts of several rows, and how many texts each row has."""

    tokens: Tokens
    texts: np.ndarray

    def shingles(self, size: int, marks: Sequence[tuple[int, int]]) -> Grams:
        """The n-grams of each row. The same words under another mark (see ``Fields.mark``) are other n-grams."""
        import numpy as np

        found = grams_of(self.tokens, size)
        ends = np.cumsum(self.texts)
        hashes = found.hashes
        if any(map(any, marks)):
            salts = np.repeat(np.array([label for label, _ in marks], np.uint64), self.texts)
            for end, (_, rejected) in zip(ends.tolist(), marks, strict=True):
                salts[end - rejected : end] += np.uint64(_REJECTED)
            hashes = hashes ^ np.repeat(mix(salts), found.counts)
        return Grams(hashes, np.concatenate([[0], found.starts[ends]]))

    def by_text(self, size: int) -> TextGrams:
        """The n-grams of each text."""
        import numpy as np

        rows = np.repeat(np.arange(len(self.texts)), self.texts)
        return TextGrams(rows, np.diff(self.tokens.starts), grams_of(self.tokens, size))


def tokens_of_rows(texts: Sequence[Sequence[str]]) -> RowTokens:
    """The tokens of rows, given the texts of each."""
    import numpy as np

    counts = np.fromiter(map(len, texts), np.int64, len(texts))
    return RowTokens(tokens_of([folded(text) for row in texts for text in row]), counts)
