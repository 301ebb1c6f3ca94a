"""Records to token ids and labels, in one walk over their slots; stats, validate and training all call it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from registry.errors import RowFault
from registry.records import ChatRecord, PreferenceRecord, Record
from registry.render import Renderer, Turn, answers_of, turns_of
from registry.templates import Slot, Token
from registry.tokenizer import TextEncoder

IGNORE = -100  # the label of a token that is not trained; torch's cross-entropy skips it


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence: ``ids`` and, at the same places, ``labels`` (the id itself where trained, else ``IGNORE``).

    ``num_cut`` is how many of the record's tokens the length budget left out.
    """

    ids: array[int]
    labels: array[int]
    num_cut: int = 0

    @property
    def num_trained(self) -> int:
        return len(self.labels) - self.labels.count(IGNORE)


@dataclass(frozen=True, slots=True)
class PreferenceExample:
    """The same prompt with the better and the worse answer; both prompts are cut to one length."""

    chosen: Example
    rejected: Example


@dataclass(frozen=True, slots=True)
class EncodeRules:
    """What decides the ids of an example besides template and tokenizer. Lengths are in tokens."""

    cutoff_len: int = 2048
    train_on_prompt: bool = False
    mask_history: bool = False
    strict: bool = False


class Encoder:
    """Encodes many records with one tokenizer call, so that its own threads have something to do."""

    def __init__(self, tokenizer: TextEncoder, renderer: Renderer, rules: EncodeRules) -> None:
        self.tokenizer, self.renderer, self.rules = tokenizer, renderer, rules

    def chats(self, records: Sequence[ChatRecord]) -> list[Example | RowFault]:
        """sft: each record's example, or why it has none."""
        return [t if isinstance(t, RowFault) else self._join(t) for t in self._encoded(turns_of, records)]

    def preferences(self, records: Sequence[PreferenceRecord]) -> list[PreferenceExample | RowFault]:
        """rm and dpo: chosen and rejected with one prompt, cut by the longer answer (as LLaMA-Factory 0.9.5)."""
        return [t if isinstance(t, RowFault) else self._pair(*t) for t in self._encoded(answers_of, records)]

    def lengths(self, records: Sequence[ChatRecord | PreferenceRecord]) -> list[list[tuple[int, int]] | RowFault]:
        """Uncut (source, target) lengths: of every turn of a chat, of both answers of a preference."""
        walk = answers_of if records and isinstance(records[0], PreferenceRecord) else turns_of
        return [
            t if isinstance(t, RowFault) else [(len(turn.source), len(turn.target)) for turn in t]
            for t in self._encoded(walk, records)
        ]

    def _encoded(self, walk: Walk, records: Sequence[Any]) -> list[list[EncodedTurn] | RowFault]:
        """Every record's turns as ids. Literals repeat in each row, so distinct slots are encoded once a call."""
        walked = [_or_fault(walk, record, self.renderer) for record in records]
        turns = [turn for found in walked if not isinstance(found, RowFault) for turn in found]
        slots = dict.fromkeys(slot for turn in turns for slot in (*turn.source, *turn.target))
        texts = [slot for slot in slots if isinstance(slot, str) and slot]
        ids: dict[Slot, list[int]] = dict(zip(texts, self.tokenizer.encode_batch(texts), strict=True))
        ids |= {slot: self._token(slot) for slot in slots if isinstance(slot, Token)}
        ids[""] = []

        def joined(side: Iterable[Slot]) -> list[int]:
            return [i for slot in side for i in ids[slot]]

        return [
            found if isinstance(found, RowFault) else [EncodedTurn(joined(t.source), joined(t.target)) for t in found]
            for found in walked
        ]

    def _token(self, slot: Token) -> list[int]:
        own = {"bos_token": self.tokenizer.bos_id, "eos_token": self.tokenizer.eos_id}
        number = own[slot.of] if slot.of else self.tokenizer.token_id(slot.text or "")
        return [] if number is None else [number]

    def _join(self, turns: Sequence[EncodedTurn]) -> Example | RowFault:
        """Turns to one example under the length budget."""
        rules, eos = self.rules, self.tokenizer.eos_id if self.renderer.efficient_eos else None
        cuts = plan_cuts([(len(t.source), len(t.target)) for t in turns], rules, efficient_eos=eos is not None)
        ids: list[int] = []
        labels: list[int] = []
        for cut in sorted(cuts, key=lambda cut: cut.turn):
            source, target = turns[cut.turn].source[: cut.num_source], turns[cut.turn].target[: cut.num_target]
            source_labels = source if rules.train_on_prompt else [IGNORE] * len(source)
            if eos is not None and source and not cut.first:
                source_labels = [eos, *source_labels[1:]]  # it ends the answer before it
            ids += source + target
            labels += source_labels + ([IGNORE] * len(target) if rules.mask_history and not cut.first else target)
        if eos is not None:
            ids, labels = [*ids, eos], [*labels, eos]
        num_cut = sum(len(t.source) + len(t.target) for t in turns) - sum(c.num_source + c.num_target for c in cuts)
        return self._checked(Example(array("i", ids), array("i", labels), num_cut))

    def _pair(self, chosen: EncodedTurn, rejected: EncodedTurn) -> PreferenceExample | RowFault:
        end = [self.tokenizer.eos_id] if self.renderer.efficient_eos and self.tokenizer.eos_id is not None else []
        answers = [turn.target + end for turn in (chosen, rejected)]
        num_source, num_target = split_budget(len(chosen.source), max(map(len, answers)), self.rules.cutoff_len)
        source, hidden = chosen.source[:num_source], [IGNORE] * num_source
        pair = []
        for answer in answers:
            ids, labels = source + answer[:num_target], hidden + answer[:num_target]
            num_cut = len(chosen.source) + len(answer) - len(ids)
            pair.append(self._checked(Example(array("i", ids), array("i", labels), num_cut)))
        fault = next((side for side in pair if isinstance(side, RowFault)), None)
        return fault or PreferenceExample(*pair)  # type: ignore[arg-type]

    def _checked(self, example: Example) -> Example | RowFault:
        """LLaMA-Factory trains on rows without a trained token; here they are rejected, unless strict."""
        if self.rules.strict or example.num_trained:
            return example
        return RowFault("answer", f"no token of the answer is left to train within cutoff_len {self.rules.cutoff_len}")


@dataclass(frozen=True, slots=True)
class EncodedTurn:
    """A turn's ids, uncut."""

    source: list[int]
    target: list[int]


Walk = Callable[[Any, Renderer], Sequence[Turn]]


def _or_fault(walk: Walk, record: Record, renderer: Renderer) -> Sequence[Turn] | RowFault:
    try:
        return walk(record, renderer)
    except RowFault as fault:
        return fault


@dataclass(frozen=True, slots=True)
class Cut:
    """What is kept of one turn; ``first`` marks the turn that was given room first."""

    turn: int
    num_source: int
    num_target: int
    first: bool


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
