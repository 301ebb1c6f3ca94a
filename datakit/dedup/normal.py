"""The normal form of text, and of rows the bytes and the 128-bit key that are equal where they count as equal."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import orjson

from datakit.values import tame
from registry.errors import RowFault

KEY_BYTES = 16  # ten million different rows have two equal keys with a probability of 1.5e-25
# What the normal form is of ASCII, byte by byte: small letters, and one kind of space. Other bytes stay as they are.
_ASCII = bytes(0x20 if chr(code).isspace() else ord(chr(code).lower()) if code < 128 else code for code in range(256))
# White space beyond ASCII that NFKC leaves as it is, in UTF-8.
_WIDE_SPACES = tuple(space.encode() for space in "\x85\u1680\u2028\u2029")
_SCALARS = (int, float, bool, type(None))
_MARK = " \0 "  # between texts
MOST_NAMES = 4096  # of keys whose bytes are remembered


def folded(text: str) -> str:
    """``text`` without what is only another spelling: compatibility forms (Unicode NFKC) and case (full folding)."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def normal_text(text: str) -> bytes:
    """``text`` folded, each run of white space one space, none at either end; as UTF-8."""
    if text.isascii():
        spelled = text.encode()
    else:
        spelled = folded(text).encode("utf-8", "surrogatepass")
        for space in _WIDE_SPACES:
            spelled = spelled.replace(space, b" ")
    # Most runs are empty lines; without them the search below mostly finds nothing, and this takes half as long.
    spelled = spelled.replace(b"\n\n", b" ").translate(_ASCII).strip()
    if b"  " not in spelled:
        return spelled
    # Twice as fast as splitting at every space: what lies between runs has one space in front at most.
    return b" ".join([part.strip() for part in spelled.split(b"  ") if part])


def raw_text(text: str) -> bytes:
    """``text`` as it is, as UTF-8."""
    return text.encode("utf-8", "surrogatepass")


def key_of(value: Any, *, normalise: bool) -> bytes:
    """The key of a value: equal for values that are equal but for the order of keys and, normalised, the form of texts.

    Numbers are equal where they are spelled alike: 1 is not 1.0. Raises ``RowFault`` for what no JSON can spell.
    """
    spell_text = normal_text if normalise else raw_text
    spelled = _spell_flat(value, spell_text) if type(value) is dict else None
    if spelled is None:
        parts: list[bytes] = []
        try:
            _spell(value, parts, spell_text)
        except RecursionError:
            raise RowFault("row", "the row is nested too deep") from None
        spelled = b"".join(parts)
    return hashlib.blake2b(spelled, digest_size=KEY_BYTES).digest()


def _spell_flat(row: dict[str, Any], spell_text: Callable[[str], bytes]) -> bytes | None:
    """As ``_spell``, for rows without lists and objects, twice as fast: all texts are spelled as one, with marks between.

    White space around a mark makes no difference that could not be undone: as many marks are there as texts, less one.
    None for other rows, and for texts that hold a mark themselves.
    """
    texts: list[str] = []
    shape: list[Any] = []
    for name in _in_order(row):
        value = row[name]
        kind = type(value)
        if kind is dict or kind is list:
            return None
        if kind is not str and kind not in _SCALARS:
            value = _plain(value)
        if type(value) is str:
            texts.append(value)
            shape.append(str(name))
        elif type(value) in _SCALARS:
            shape.append((str(name), _number(value)))
        else:
            return None
    text = _MARK.join(texts)
    if text.count("\0") >= max(len(texts), 1):
        return None
    return b"=%b%b" % (_shape(tuple(shape)), spell_text(text))


def _spell(value: Any, parts: list[bytes], spell_text: Callable[[str], bytes]) -> None:
    """``value`` as bytes that no other value has: what could hold any byte is told by its length first."""
    kind = type(value)
    if kind is str:
        text = spell_text(value)
        parts += (b"%d:" % len(text), text)
    elif kind is dict:
        parts.append(b"{")
        for name in _in_order(value):
            inner = value[name]
            if type(inner) is str:  # nearly all are, and a call for each would take longer than all the rest here
                text = spell_text(inner)
                parts += (_name(name), b"%d:" % len(text), text)
            else:
                parts.append(_name(name))
                _spell(inner, parts, spell_text)
        parts.append(b"}")
    elif kind is list:
        parts.append(b"[")
        for inner in value:
            _spell(inner, parts, spell_text)
        parts.append(b"]")
    elif kind in _SCALARS:
        parts.append(_number(value))
    else:
        _spell(_plain(value), parts, spell_text)


def _in_order(names: Iterable[Any]) -> list[Any]:
    try:
        return sorted(names)
    except TypeError:  # not all are text
        return sorted(names, key=str)


@lru_cache(MOST_NAMES)
def _shape(shape: tuple[Any, ...]) -> bytes:
    """The names of a flat row with the numbers in it, by their length: texts follow."""
    spelled = repr(shape).encode("utf-8", "surrogatepass")
    return b"%d:%b" % (len(spelled), spelled)


@lru_cache(MOST_NAMES)
def _name(name: Any) -> bytes:
    spelled = raw_text(str(name))
    return b"%d:%b" % (len(spelled), spelled)


def _number(value: Any) -> bytes:
    try:
        return orjson.dumps(value) + b";"  # NaN and infinities are null, as they are written
    except TypeError:  # beyond 64 bits
        return b"%d;" % value


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else tame(value, Counter())
