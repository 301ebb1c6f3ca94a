"""Records to token ids and labels, in one walk over their slots; stats, validate and training all call it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeVar

from registry.errors import RowFault
from registry.fast_tokenizers import is_whole
from registry.records import ChatRecord, FeedbackRecord, PreferenceRecord, Record
from registry.render import Renderer, Turn, answers_of, judged_of, turns_of
from registry.templates import Slot, Token
from registry.tokenizer import TextEncoder

T = TypeVar("T")

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

    def walked(self, records: Sequence[Record]) -> list[Sequence[Turn] | RowFault]:
        """The turns of each of several records of one kind, not encoded yet, or why it has none."""
        return self._walked(WALKS[type(records[0])], records) if records else []

    def _walked(self, walk: Walk, records: Sequence[Record]) -> list[Sequence[Turn] | RowFault]:
        return [_or_fault(walk, record, self.renderer) for record in records]

    def lengths(self, batches: Iterable[Sequence[Sequence[Turn] | RowFault]]) -> Iterator[TurnLengths]:
        """Uncut lengths of all turns of each batch. While a batch is made, the one before is counted on a second thread."""
        with ThreadPoolExecutor(1, thread_name_prefix="count") as pool:
            before: Future[TurnLengths] | None = None
            for walked in batches:
                counting = pool.submit(self._lengths, walked)
                if before:
                    yield before.result()
                before = counting
            if before:
                yield before.result()

    def _lengths(self, walked: Sequence[Sequence[Turn] | RowFault]) -> TurnLengths:
        slots = _distinct(walked)
        counts = count_texts([slot for slot in slots if isinstance(slot, str)], self.tokenizer)
        counts |= {slot: len(token_ids(slot, self.tokenizer)) for slot in slots if isinstance(slot, Token)}
        counts[""] = 0
        return _turn_lengths(walked, counts)

    def _encoded(self, walk: Walk, records: Sequence[Record]) -> list[list[EncodedTurn] | RowFault]:
        """Every record's turns as ids."""
        walked = self._walked(walk, records)
        slots = _distinct(walked)
        texts = [slot for slot in slots if isinstance(slot, str)]
        ids: dict[Slot, list[int]] = _by_text(texts, self.tokenizer.encode_batch)
        ids |= {slot: token_ids(slot, self.tokenizer) for slot in slots if isinstance(slot, Token)}
        ids[""] = []

        def joined(side: Iterable[Slot]) -> list[int]:
            return [i for slot in side for i in ids[slot]]

        found: list[list[EncodedTurn] | RowFault] = []
        for turns in walked:
            try:
                found.append(
                    turns
                    if isinstance(turns, RowFault)
                    else [EncodedTurn(joined(turn.asked), joined(turn.target), turn.weight) for turn in turns]
                )
            except KeyError:
                found.append(HALF)
        return found

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
    """A turn's ids, uncut, and what its answer counts in the loss."""

    source: list[int]
    target: list[int]
    weight: float = 1.0


@dataclass(slots=True)
class TurnLengths:
    """Uncut lengths of a batch, in tokens: a record's turns follow one another in ``sources`` and ``targets``.

    ``num_turns`` has an entry for each record: 0 for those in ``faults`` (by their number in the batch).
    """

    num_turns: list[int] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    faults: dict[int, RowFault] = field(default_factory=dict)


def token_ids(slot: Token, tokenizer: TextEncoder) -> list[int]:
    """The one id that a slot stands for; none where the tokenizer has no such token."""
    own = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.eos_id}
    number = own[slot.of] if slot.of else tokenizer.token_id(slot.text or "")
    return [] if number is None else [number]


Walk = Callable[[Any, Renderer], Sequence[Turn]]
# kind of record -> its turns, as the stage that learns from it cuts them
WALKS: dict[type[Record], Walk] = {
    ChatRecord: turns_of,
    PreferenceRecord: answers_of,
    FeedbackRecord: judged_of,
}
HALF = RowFault("text", "it holds half a character (a lone surrogate), which no tokenizer can read")


def _or_fault(walk: Walk, record: Record, renderer: Renderer) -> Sequence[Turn] | RowFault:
    try:
        return walk(record, renderer)
    except RowFault as fault:
        return fault


def _distinct(walked: Sequence[Sequence[Turn] | RowFault]) -> dict[Slot, None]:
    """The slots of many turns, each once: literals repeat in every row."""
    whole = (turn for turns in walked if turns.__class__ is not RowFault for turn in turns)  # type: ignore[union-attr]
    return dict.fromkeys(
        chain.from_iterable(side for turn in whole for side in (turn.source, turn.thought, turn.target))
    )


def count_texts(texts: Sequence[str], tokenizer: TextEncoder) -> dict[Slot, int]:
    """How many ids each text has; texts with halves of characters are left out."""

    def one_by_one(texts: Sequence[str]) -> list[int]:
        return list(map(len, tokenizer.encode_batch(texts)))

    return _by_text(texts, getattr(tokenizer, "count_batch", one_by_one))


def _by_text(texts: Sequence[str], answer: Callable[[Sequence[str]], Sequence[T]]) -> dict[Slot, T]:
    """What one call of the tokenizer answers for each text; texts with halves of characters are left out."""
    texts = [text for text in texts if text]
    try:
        answers = answer(texts)
    except (TypeError, ValueError):
        whole = [text for text in texts if is_whole(text)]
        if len(whole) == len(texts):
            raise
        texts, answers = whole, answer(whole)
    return dict(zip(texts, answers, strict=True))


def _turn_lengths(walked: Sequence[Sequence[Turn] | RowFault], counts: dict[Slot, int]) -> TurnLengths:
    found = TurnLengths()
    count = counts.__getitem__
    for number, turns in enumerate(walked):
        try:
            fault, sides = None, []
            if isinstance(turns, RowFault):
                fault = turns
            else:
                sides = [sum(map(count, side)) for turn in turns for side in (turn.asked, turn.target)]
        except KeyError:
            fault = HALF
        if fault:
            found.faults[number] = fault
        found.num_turns.append(len(sides) // 2)
        found.sources += sides[::2]
        found.targets += sides[1::2]
    return found


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
