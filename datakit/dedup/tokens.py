"""Texts to tokens and n-grams as 64-bit hashes, whole batches at a time: words, and single characters of scripts without spaces."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from datakit.mixing import mix

if TYPE_CHECKING:
    import numpy as np

PIECE = 1 << 17  # characters hashed in one go: what a batch holds at most, and where a longer text is cut
LOOK_BACK = 1 << 10  # characters before such a cut in which a space is looked for
_LAST_ASSIGNED = 0x323B0  # no letter, digit or mark lies beyond
_BASE = 0x9E3779B97F4A7C15 | 1  # of the polynomials; odd, so that it has an inverse modulo 2**64
_INVERSE = pow(_BASE, -1, 1 << 64)
_WORD, _ALONE = 1, 2
# Scripts written without spaces between words: each letter is a token of its own.
_ALONE_RANGES = (
    (0x0E00, 0x0F00),  # Thai, Lao
    (0x1000, 0x10A0),  # Myanmar
    (0x1780, 0x1800),  # Khmer
    (0x3040, 0x3100),  # Hiragana, Katakana
    (0x31F0, 0x3200),  # Katakana for Ainu
    (0x3400, 0xA000),  # Han
    (0xF900, 0xFB00),  # Han, for compatibility
    (0x20000, _LAST_ASSIGNED),  # Han
)


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of several texts, one after another: text ``i`` has ``hashes[starts[i]:starts[i + 1]]``."""

    hashes: np.ndarray  # uint64
    starts: np.ndarray  # int64, one more than there are texts


@dataclass(frozen=True, slots=True)
class Grams:
    """Hashes of n-grams in groups, in order and with repeats: group ``i`` has ``hashes[starts[i]:starts[i + 1]]``."""

    hashes: np.ndarray
    starts: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """The number of n-grams in each group."""
        return self.starts[1:] - self.starts[:-1]

    def only(self, groups: np.ndarray) -> Grams:
        """Some of the groups, given by their indexes, in order."""
        import numpy as np

        counts = self.counts
        wanted = np.zeros(len(counts), bool)
        wanted[groups] = True
        starts = np.zeros(len(groups) + 1, np.int64)
        np.cumsum(counts[groups], out=starts[1:])
        return Grams(self.hashes[np.repeat(wanted, counts)], starts)


def tokens_of(texts: Sequence[str]) -> Tokens:
    """The tokens of ``texts``, which come in normal form: runs of letters, digits and marks; all else parts them."""
    import numpy as np

    counts = np.zeros(len(texts), np.int64)
    found: list[np.ndarray] = []
    for first, piece in _batches(texts):
        hashes, numbers = _hash_tokens(piece)
        counts[first : first + len(piece)] += numbers
        found.append(hashes)
    starts = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    return Tokens(np.concatenate(found) if found else np.empty(0, np.uint64), starts)


def grams_of(tokens: Tokens, size: int) -> Grams:
    """Every run of ``size`` tokens of each text; a shorter text is one n-gram as a whole, an empty one has none."""
    import numpy as np

    counts = np.diff(tokens.starts)
    lengths = np.minimum(counts, size)  # tokens in each n-gram of a text
    numbers = np.where(counts > 0, np.maximum(counts - size + 1, 1), 0)
    starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(numbers, out=starts[1:])
    at = np.arange(starts[-1]) + np.repeat(tokens.starts[:-1] - starts[:-1], numbers)
    sums = _running_sums(tokens.hashes)
    length = np.repeat(lengths, numbers)
    hashes = (sums[at + length] - sums[at]) * _powers(len(tokens.hashes))[1][at]
    return Grams(mix(hashes), starts)


def _batches(texts: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """The texts, or pieces of one long text, by up to ``PIECE`` characters; each with the index of the first text."""
    batch: list[str] = []
    first = size = 0
    for index, text in enumerate(texts):
        if batch and size + len(text) > PIECE:
            yield first, batch
            batch, first, size = [], index, 0
        if len(text) > PIECE:
            yield from ((index, [piece]) for piece in _pieces(text))
            first = index + 1
            continue
        batch.append(text)
        size += len(text) + 1
    if batch:
        yield first, batch


def _pieces(text: str) -> Iterator[str]:
    """A long text in pieces, cut at spaces where there are any near; the space itself is left out."""
    start = 0
    while len(text) - start > PIECE:
        end = start + PIECE
        space = text.rfind(" ", end - LOOK_BACK, end)
        yield text[start : space if space > start else end]
        start = space + 1 if space > start else end
    yield text[start:]


def _hash_tokens(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of all tokens, and how many each text has."""
    import numpy as np

    codes = np.frombuffer("\n".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    kinds = _kinds().take(codes, mode="clip")
    starts, ends = _token_bounds(kinds)
    sums = _running_sums(codes)
    hashes = mix((sums[ends] - sums[starts]) * _powers(len(codes))[1][starts])
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    ends_of_texts = np.cumsum(lengths + 1) - 1
    return hashes, np.diff(np.searchsorted(starts, ends_of_texts), prepend=0)


def _token_bounds(kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where tokens start and end, given the kind of each character."""
    import numpy as np

    word, alone = kinds == _WORD, kinds == _ALONE
    starts, ends = word.copy(), word.copy()
    starts[1:] &= ~word[:-1]
    ends[:-1] &= ~word[1:]
    return np.flatnonzero(starts | alone), np.flatnonzero(ends | alone) + 1


def _running_sums(values: np.ndarray) -> np.ndarray:
    """Sums of ``value[j] * BASE**j`` modulo 2**64: the difference of two is the polynomial of what lies between."""
    import numpy as np

    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values * _powers(len(values))[0][: len(values)], out=sums[1:])
    return sums


def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """At least ``count + 1`` powers of the base, and of its inverse."""
    return _powers_up_to(max(1 << (count + 1).bit_length(), 1 << 16))


@cache
def _powers_up_to(count: int) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    def powers(base: int) -> np.ndarray:
        steps = np.full(count, base, np.uint64)
        steps[0] = 1
        return np.cumprod(steps, dtype=np.uint64)

    return powers(_BASE), powers(_INVERSE)


@cache
def _kinds() -> np.ndarray:
    """What each character is by its code: part of a word, a token alone, or (0) neither."""
    import numpy as np

    def is_word(code: int) -> bool:
        character = chr(code)
        return character.isalnum() or unicodedata.category(character)[0] == "M"

    kinds = np.fromiter(map(is_word, range(_LAST_ASSIGNED + 1)), np.uint8, _LAST_ASSIGNED + 1)
    for start, end in _ALONE_RANGES:
        kinds[start:end] *= _ALONE
    return kinds
