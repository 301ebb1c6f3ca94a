"""Long texts cut into pieces of so many tokens that overlap, with cuts where a paragraph or a sentence ends if one does."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Sequence

from registry.errors import UsageError

# The first and last character (one behind it) of each token of a text, as the offsets of a fast tokenizer.
Encode = Callable[[str], Iterable[tuple[int, int]]]
LONGEST_WORD = 20  # characters; what is longer (addresses, base64) counts as several
_CJK = r"\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_CJK}]|[^\s{_CJK}]{{1,{LONGEST_WORD}}}")
_CLOSING = "”’」』）"
_SENTENCE = re.compile(r"""[.!?…]["'”’»)\]]*\Z""")  # with a space behind it: "3.14" is no end
_CJK_SENTENCE = re.compile(rf"[。！？；][{_CLOSING}]*\Z")
_LOOK_BACK = (
    8  # characters in which the end of a sentence, its quotation marks and the space behind them are looked for
)
_PARAGRAPH = re.compile(r"\n[ \t\r]*\n")
_PARAGRAPH_END, _LINE_END, _SENTENCE_END, _ANYWHERE = range(4)


def words(text: str) -> Iterable[tuple[int, int]]:
    """What counts as a token where there is no tokenizer: words of up to 20 characters, and each character of Chinese,
    Japanese and Korean."""
    return (found.span() for found in _WORD.finditer(text))


def chunks(text: str, tokens: int, overlap: int = 0, encode: Encode | None = None) -> list[str]:
    """Pieces of at most ``tokens`` tokens, which cover the text; each begins with the last ``overlap`` of the one before.

    Pieces are about equally long. A piece ends at the end of a paragraph, line or sentence in its last quarter where
    there is one, else behind any token. ``encode`` gives the offsets of tokens (``words`` without it); white space
    between two tokens belongs to the first. A text of white space alone has no pieces.

    Raises ``UsageError`` unless 0 <= ``overlap`` <= ``tokens`` / 2.
    """
    return [text[begin:end] for begin, end in spans(text, tokens, overlap, encode)]


def spans(text: str, tokens: int, overlap: int = 0, encode: Encode | None = None) -> list[tuple[int, int]]:
    """Where the pieces of ``chunks`` begin and end."""
    if tokens < 1 or not 0 <= overlap <= tokens // 2:
        raise UsageError(
            f"pieces of {tokens} tokens cannot overlap by {overlap}",
            mend="The overlap must be at most half of the size of a piece; 10% is usual.",
        )
    if not text.strip():
        return []
    starts = _starts(text, encode or words)
    found: list[tuple[int, int]] = []
    first = 0  # the token that the piece begins with
    while len(starts) - first > tokens:
        cut = _cut(text, starts, first, tokens, overlap)
        found.append((starts[first] if found else 0, starts[cut]))
        first = cut - overlap
    found.append((starts[first] if found else 0, len(text)))
    return found


def _starts(text: str, encode: Encode) -> Sequence[int]:
    """Where each token begins. Tokens that share a character, as pieces of an emoji do, count as one."""
    starts = array("q")
    last = -1
    for begin, end in encode(text):
        if begin > last and end > begin:  # marks such as <s> have no length
            starts.append(begin)
            last = begin
    return starts


def _cut(text: str, starts: Sequence[int], first: int, tokens: int, overlap: int) -> int:
    """The token before which the piece from ``first`` ends: in its last quarter, at the best place, near its fair share."""
    rest = len(starts) - first - overlap
    pieces = -(-rest // (tokens - overlap))
    size = overlap + -(-rest // pieces)
    earliest = max(first + overlap + 1, first + size - size // 4)
    candidates = range(earliest, first + tokens + 1)
    return min(candidates, key=lambda token: (_kind(text, starts, token), abs(first + size - token), token))


def _kind(text: str, starts: Sequence[int], token: int) -> int:
    """What ends between a token and the one before it."""
    before = text[starts[token - 1] : starts[token]]
    if _PARAGRAPH.search(before):
        return _PARAGRAPH_END
    if "\n" in before:
        return _LINE_END
    at = starts[token]
    ending = text[max(at - _LOOK_BACK, 0) : at]
    said = ending.rstrip()
    if len(said) < len(ending) or text[at].isspace():
        ends = _SENTENCE.search(said) or _CJK_SENTENCE.search(said)
    else:
        ends = None if text[at] in _CLOSING else _CJK_SENTENCE.search(said)
    return _SENTENCE_END if ends else _ANYWHERE
