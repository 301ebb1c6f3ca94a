"""Tokens that a run adds to its tokenizer before the template adds its own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NewTokens:
    """``plain`` tokens are matched in the text as the tokenizer normalises it, ``special`` ones as they are written.

    Ids follow the order: plain, special, then what the template adds (as LLaMA-Factory 0.9.5). A token that the
    tokenizer has keeps its id.
    """

    plain: tuple[str, ...] = ()
    special: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.plain or self.special)


NO_TOKENS = NewTokens()
