"""The cutoff_len that the lengths suggest, its reason in one sentence, and the ladder of lengths to compare it with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datakit.stats.cutoff import in_blocks

if TYPE_CHECKING:
    import numpy as np

    Ordered = np.ndarray[Any, np.dtype[np.int32]]

FINE, COARSE = 8, 64  # suggestions are multiples of COARSE, of FINE below it
TEXT_CAP = 2048  # blocks of text need not be longer to learn from; the trainer's own default
TEXT_WASTE = 0.01
LONGEST_STEP = 1 << 20  # tokens


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A ``cutoff_len`` in tokens and why."""

    cutoff_len: int
    reason: str


def suggest_cutoff(rows: Ordered, target: float, limit: int | None, unit: str = "rows") -> Suggestion:
    """The smallest multiple of 64 (of 8 below it) that keeps ``target`` of the ``rows`` whole, within the model's ``limit``.

    ``rows`` are the rows' lengths in tokens, sorted; ``unit`` is what the reason calls them.
    """
    wanted = round_up(int(rows[rank_of(target, len(rows)) - 1]))
    if limit is not None and wanted > limit:
        cutoff = round_down(limit)
        return Suggestion(
            cutoff,
            f"the model's own limit of {limit:,} tokens binds: {_whole(rows, cutoff, unit)} there, "
            f"while {percent(target)} would take {wanted:,}.",
        )
    step = COARSE if wanted > COARSE else FINE
    return Suggestion(
        wanted,
        f"{wanted:,} is the smallest multiple of {step} that keeps at least {percent(target)} of the rows whole: "
        f"{_whole(rows, wanted, unit)}.",
    )


def rank_of(share: float, num_rows: int) -> int:
    """The nearest rank (from 1) of the row up to which ``share`` of the rows lie."""
    return max(math.ceil(share * num_rows - 1e-9), 1)


def _whole(rows: Ordered, cutoff: int, unit: str) -> str:
    kept = int(rows.searchsorted(cutoff, side="right"))
    return f"{kept:,} of {len(rows):,} {unit} ({percent(kept / len(rows))}) stay whole"


def suggest_block(num_tokens: int, limit: int | None, *, opens_with_bos: bool, batch_size: int = 8) -> Suggestion:
    """pt: the largest multiple of 64 up to 2,048 and the model's ``limit`` that leaves under 1% of the text over.

    A text so short that it would not fill one batch of such blocks gets shorter ones.
    """
    largest = min(TEXT_CAP, limit or TEXT_CAP)
    cap = max(min(largest, num_tokens // batch_size), min(FINE, largest))
    step = COARSE if cap >= COARSE else FINE
    choices = list(range(cap // step * step, 0, -step)) or [cap]
    lost = {c: in_blocks(num_tokens, c, opens_with_bos=opens_with_bos).tokens_lost for c in choices}
    best = next((c for c in choices if lost[c] <= TEXT_WASTE * num_tokens), None)
    bound = f"the largest multiple of {step} up to {cap // step * step:,}"
    if best is None:
        best = min(choices, key=lambda c: lost[c])
        bound = f"of the multiples of {step} up to {cap // step * step:,} the one that leaves least over"
    why = (
        ""
        if cap == TEXT_CAP
        else " (the model's own limit)"
        if cap == limit
        else f" (longer ones would not fill a batch of {batch_size})"
    )
    share = percent(lost[best] / num_tokens) if num_tokens else "0%"
    ending = "" if lost[best] > TEXT_WASTE * num_tokens else " that leaves at most 1% of the text over"
    return Suggestion(
        best,
        f"text is cut into blocks, not truncated, and {best:,} is {bound}{why}{ending}: {lost[best]:,} tokens ({share}).",
    )


def ladder(shortest: int, longest: int, suggested: int, limit: int | None) -> list[int]:
    """Powers of two from the last one not above ``shortest`` to the first not below ``longest``, within ``limit``.

    Beyond ``LONGEST_STEP`` there is none but the suggestion: one monstrous row would make a dozen of them.
    """
    power = max(1 << (max(shortest, 1).bit_length() - 1), FINE)
    steps = {suggested}
    while power <= LONGEST_STEP:
        steps.add(min(power, limit or power))
        if power >= min(longest, limit or longest):
            break
        power *= 2
    return sorted(steps)


def round_up(length: int) -> int:
    """To the next multiple of 64, of 8 below it; never under 8."""
    fine = max(-(-length // FINE) * FINE, FINE)
    return fine if fine <= COARSE else -(-length // COARSE) * COARSE


def round_down(length: int) -> int:
    """To the last multiple of 64, of 8 below it; ``length`` itself below 8."""
    step = COARSE if length >= COARSE else FINE if length >= FINE else 1
    return length // step * step


def percent(share: float) -> str:
    """``0.993`` → ``99.3%``; only a true whole reads 100%, only a true nothing 0%."""
    if 0.9995 <= share < 1:
        return ">99.9%"
    if 0 < share < 0.0005:
        return "<0.1%"
    return f"{share * 100:.1f}".removesuffix(".0") + "%"
