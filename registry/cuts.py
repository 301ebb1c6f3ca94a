"""What is kept of a conversation under a length budget, and which of it is trained: pure functions on lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

IGNORE = -100  # the label of a token that is not trained; torch's cross-entropy skips it

SPLIT, DROP, LEFT, TURNS_START, TURNS_END = TRUNCATIONS = ("split", "drop", "left", "turns_start", "turns_end")


@dataclass(frozen=True, slots=True)
class EncodeRules:
    """What decides, besides template and tokenizer, which tokens an example keeps and trains. Lengths are in tokens.

    ``truncation`` is what happens to an example above ``cutoff_len``: ``split`` shares the room between prompt and
    answer (as LLaMA-Factory 0.9.5), ``drop`` leaves the example out, ``left`` keeps its end, ``turns_start`` and
    ``turns_end`` keep whole turns from the start or from the end. ``strict`` keeps examples that train nothing.
    """

    cutoff_len: int = 2048
    train_on_prompt: bool = False
    mask_history: bool = False
    strict: bool = False
    truncation: str = SPLIT


@dataclass(frozen=True, slots=True)
class Cut:
    """What is kept of one turn, each side from its head; ``first`` marks the turn that was given room first."""

    turn: int
    num_source: int
    num_target: int
    first: bool


def cut_turns(
    lengths: Sequence[tuple[int, int]], rules: EncodeRules, *, num_end: int = 0, lead: int = 0
) -> tuple[list[Cut], int] | None:
    """What a conversation keeps of its turns, in their order, and how many tokens of its opening stand before them.

    ``num_end`` tokens end the whole, ``lead`` tokens open it before its first message. ``LEFT`` keeps all here: it cuts
    what is made of them. None where the conversation is left out (``DROP``, or no whole turn fits).
    """
    last = len(lengths) - 1

    def whole(turns: range) -> list[Cut]:
        first = last if rules.mask_history else turns.start
        return [Cut(turn, *lengths[turn], first=turn == first) for turn in turns]

    if sum(map(sum, lengths)) + num_end <= rules.cutoff_len or rules.truncation == LEFT:
        return whole(range(len(lengths))), 0
    if rules.truncation == SPLIT:
        return sorted(plan_cuts(lengths, rules, efficient_eos=num_end > 0), key=lambda cut: cut.turn), 0
    if rules.truncation == DROP:
        return None
    from_end = rules.truncation == TURNS_END
    turns = whole_turns(lengths, rules.cutoff_len - num_end, from_end=from_end, lead=lead)
    return (whole(turns), lead if from_end and turns.start else 0) if turns else None


def plan_cuts(lengths: Sequence[tuple[int, int]], rules: EncodeRules, *, efficient_eos: bool = False) -> list[Cut]:
    """How much of each turn is kept within ``cutoff_len`` (as LLaMA-Factory 0.9.5), in order of priority.

    Early turns come first, with ``mask_history`` the last ones; turns past the budget are left out whole.
    """
    total = 1 if efficient_eos else 0
    cuts: list[Cut] = []
    order = range(len(lengths))
    for turn in reversed(order) if rules.mask_history else order:
        if total >= rules.cutoff_len:
            break
        num_source, num_target = split_budget(*lengths[turn], rules.cutoff_len - total)
        total += num_source + num_target
        cuts.append(Cut(turn, num_source, num_target, first=not cuts))
    return cuts


def whole_turns(lengths: Sequence[tuple[int, int]], budget: int, *, from_end: bool, lead: int = 0) -> range:
    """The longest run of whole turns from one end of a conversation that fits ``budget`` tokens.

    From the end, the first ``lead`` tokens of the conversation (its system text) stay in front of what is kept.
    """
    total = 0
    if not from_end:
        for turn, (num_source, num_target) in enumerate(lengths):
            total += num_source + num_target
            if total > budget:
                return range(turn)
        return range(len(lengths))
    for turn in reversed(range(len(lengths))):
        total += sum(lengths[turn])
        if total + (lead if turn else 0) > budget:
            return range(turn + 1, len(lengths))
    return range(len(lengths))


def split_budget(num_source: int, num_target: int, budget: int) -> tuple[int, int]:
    """How many source and target tokens to keep, each from its head (as LLaMA-Factory 0.9.5).

    Whichever side takes less than half of the budget is kept whole; otherwise both shrink in proportion. The
    quotient is formed first: ``int(c * (t / (s + t)))`` and ``int(c * t / (s + t))`` differ in rare cases.
    """
    if 2 * num_target < budget:
        allowance = budget
    elif 2 * num_source < budget:
        allowance = budget - num_source
    else:
        allowance = int(budget * (num_target / (num_source + num_target)))
    kept_target = min(allowance, num_target)
    return min(max(budget - kept_target, 0), num_source), kept_target
