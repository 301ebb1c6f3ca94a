"""Slots filled with text, and text of the user's side cut so that no special token comes of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache

from registry.templates import Slot


def special_pattern(tokens: Iterable[str]) -> re.Pattern[str] | None:
    """What finds special tokens in a text; None where there are none. Those of one character cannot be cut apart."""
    words = sorted({token for token in tokens if len(token) > 1}, key=lambda token: (-len(token), token))
    return re.compile("|".join(map(re.escape, words))) if words else None


def pieces_of(text: str, specials: re.Pattern[str] | None) -> list[str]:
    """A text cut after the first character of each special token in it, so that no piece holds one.

    Pieces are encoded one by one: what looked like a special token becomes plain text, and reads the same.
    """
    pieces: list[str] = []
    while specials is not None and (found := specials.search(text)):
        pieces.append(text[: found.start() + 1])
        text = text[found.start() + 1 :]
    return [*pieces, text]


def filled(slots: Sequence[Slot], content: Sequence[str], turn: int) -> tuple[Slot, ...]:
    """Slots with the pieces of a content in their place; only the first piece follows the text before it, and only
    the last one is followed by the text after it."""
    found: list[Slot] = []
    for slot in slots:
        if not isinstance(slot, str):
            found.append(slot)
            continue
        # The index is only looked for outside the content: a "{{idx}}" inside the user's own text is text.
        before, has_content, after, numbered = _pieces(slot)
        if numbered:
            before, after = (part.replace("{{idx}}", str(turn)) for part in (before, after))
        if not has_content:
            found.append(before)
        elif len(content) == 1:
            found.append(f"{before}{content[0]}{after}")
        else:
            found += [before + content[0], *content[1:-1], content[-1] + after]
    return tuple(found)


@cache
def _pieces(slot: str) -> tuple[str, bool, str, bool]:
    before, mark, after = slot.partition("{{content}}")
    return before, bool(mark), after, "{{idx}}" in slot
