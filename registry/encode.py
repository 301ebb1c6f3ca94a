"""Records to token ids and labels, in one walk over their slots; stats, validate and training all call it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, TypeVar

from registry.cuts import IGNORE, SPLIT, TURNS_END, Cut, EncodeRules, plan_cuts, split_budget
from registry.errors import RowFault
from registry.examples import (
    AnyExample,
    Example,
    FeedbackExample,
    PreferenceExample,
    join_answer,
    join_pair,
    join_prompt,
    join_turns,
    sides_of,
)
from registry.fast_tokenizers import is_whole
from registry.records import ChatRecord, FeedbackRecord, Message, PreferenceRecord, Record
from registry.render import Renderer, SlotRenderer, Turn, answers_of, judged_of, turns_of
from registry.templates import Slot, Token
from registry.tokenizer import TextEncoder
from registry.uncut import HALF, encode_rows, token_ids

__all__ = [
    "HALF", "IGNORE", "AnyExample", "Cut", "EncodeRules", "Encoder", "Example", "FeedbackExample", "PreferenceExample",
    "TurnLengths", "count_texts", "plan_cuts", "sides_of", "split_budget", "token_ids",
]  # fmt: skip

T = TypeVar("T")


class Encoder:
    """Encodes many records with one tokenizer call, so that its own threads have something to do."""

    def __init__(self, tokenizer: TextEncoder, renderer: Renderer, rules: EncodeRules) -> None:
        self.tokenizer, self.renderer, self.rules = tokenizer, renderer, rules

    @property
    def end(self) -> int | None:
        """What is written after a conversation whose replies carry no end marker of their own."""
        return self.tokenizer.eos_id if self.renderer.efficient_eos else None

    def chats(self, records: Sequence[ChatRecord]) -> list[Example | RowFault]:
        """sft: each record's example, or why it has none."""
        walked = self._walked(turns_of, records)
        uncut = encode_rows(walked, "turns", self.tokenizer)
        return [
            uncut.faults.get(row)
            or join_turns(
                *uncut.row(row), self.rules, eos=self.end, weights=weights_of(walked[row]), lead=self._lead(record)
            )
            for row, record in enumerate(records)
        ]

    def _lead(self, record: ChatRecord) -> int:
        """What ``TURNS_END`` keeps of a cut conversation's beginning."""
        if self.rules.truncation != TURNS_END or not keeps_lead(self.renderer):
            return 0
        return lead_of(record.system, record.tools, self.renderer, self.tokenizer)

    def preferences(self, records: Sequence[PreferenceRecord]) -> list[PreferenceExample | RowFault]:
        """rm and dpo: chosen and rejected with one prompt, cut by the longer answer (as LLaMA-Factory 0.9.5)."""
        uncut = encode_rows(self._walked(answers_of, records), "pair", self.tokenizer)
        return [
            uncut.faults.get(row) or join_pair(*uncut.row(row), self.rules, eos=self.end) for row in range(len(records))
        ]

    def feedback(self, records: Sequence[FeedbackRecord]) -> list[FeedbackExample | RowFault]:
        """kto: each judged answer, and the same prompt with the answer of the record before it (the first has the
        last one's, as LLaMA-Factory 0.9.5); records without ids of their own are passed over."""
        uncut = encode_rows(self._walked(judged_of, records), "answer", self.tokenizer)
        good = [row for row in range(len(records)) if row not in uncut.faults]
        made: list[FeedbackExample | RowFault] = [uncut.faults.get(row, HALF) for row in range(len(records))]
        for row, before in zip(good, good[-1:] + good[:-1], strict=True):
            made[row] = join_feedback(
                uncut.row(row), uncut.row(before), self.rules, desirable=records[row].desirable, eos=self.end
            )
        return made

    def prompts(self, records: Sequence[ChatRecord]) -> list[Example | RowFault]:
        """Prediction: each record's prompt as ids, the answer to hold against as labels."""
        uncut = encode_rows(self._walked(judged_of, records), "answer", self.tokenizer)
        made: list[Example | RowFault] = []
        for row in range(len(records)):
            ids, (num_source, num_thought, _) = uncut.row(row) if row not in uncut.faults else (uncut.ids, [0, 0, 0])
            num_prompt = num_source + num_thought
            prompt = join_prompt(ids[:num_prompt], ids[num_prompt:], self.rules, eos=self.end)
            made.append(uncut.faults.get(row) or prompt)
        return made

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


ASKED, ANSWERED = Message("user", "0"), Message("assistant", "0")


def lead_of(system: str, tools: str, renderer: Renderer, tokenizer: TextEncoder) -> int:
    """How many tokens open a conversation before its first message: prefix, system text and tools."""
    try:
        first, second = renderer.turns((ASKED, ANSWERED, ASKED, ANSWERED), system, tools)
    except (RowFault, ValueError):
        return 0
    lengths = encode_rows([[Turn(first.source, ()), Turn(second.source, ())]], "turns", tokenizer).parts
    return max(int(lengths[0] - lengths[2]), 0)


def keeps_lead(renderer: Renderer) -> bool:
    """Whether the system text stands apart: Llama 2's way puts it into the first question."""
    return not (isinstance(renderer, SlotRenderer) and renderer.template.system_in_user)


def weights_of(turns: Sequence[Turn] | RowFault) -> list[float] | None:
    """What the answer of each turn counts in the loss; None where all count alike."""
    if isinstance(turns, RowFault) or all(turn.weight == 1 for turn in turns):
        return None
    return [turn.weight for turn in turns]


def join_feedback(
    own: tuple[Any, Sequence[int]],
    before: tuple[Any, Sequence[int]],
    rules: EncodeRules,
    *,
    desirable: bool,
    eos: int | None,
) -> FeedbackExample | RowFault:
    """kto: a row's ids and part lengths (prompt, thought, answer), and those of the row whose answer goes with its
    prompt into the KL term."""
    import numpy as np

    (ids, (num_prompt, num_thought, _)), (other, (other_prompt, other_thought, _)) = own, before
    opened = num_prompt + num_thought
    answered = join_answer(ids[:opened], ids[opened:], rules, eos=eos)
    prompt = np.concatenate([ids[:num_prompt], other[other_prompt : other_prompt + other_thought]])
    # Another row's answer is no reason to leave this one out: it is cut as it must be.
    lenient = replace(rules, truncation=SPLIT, strict=True)
    crossed = join_answer(prompt, other[other_prompt + other_thought :], lenient, eos=eos)
    if isinstance(answered, RowFault):
        return answered
    assert isinstance(crossed, Example)
    return FeedbackExample(answered, crossed, desirable)


@dataclass(slots=True)
class TurnLengths:
    """Uncut lengths of a batch, in tokens: a record's turns follow one another in ``sources`` and ``targets``.

    ``num_turns`` has an entry for each record: 0 for those in ``faults`` (by their number in the batch).
    """

    num_turns: list[int] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    faults: dict[int, RowFault] = field(default_factory=dict)


Walk = Callable[[Any, Renderer], Sequence[Turn]]
# kind of record -> its turns, as the stage that learns from it cuts them
WALKS: dict[type[Record], Walk] = {
    ChatRecord: turns_of,
    PreferenceRecord: answers_of,
    FeedbackRecord: judged_of,
}


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
