"""Turns of many rows to their uncut ids, in columns: each distinct slot is encoded once, and gathered by numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry.errors import RowFault
from registry.fast_tokenizers import is_whole
from registry.render import Turn
from registry.templates import Slot, Token

if TYPE_CHECKING:
    import numpy as np

    from registry.tokenizer import TextEncoder

HALF = RowFault("text", "it holds half a character (a lone surrogate), which no tokenizer can read")

Numbers = Any  # a list of whole numbers, or an array of them
Parts = Callable[[Sequence[Turn]], Sequence[tuple[Slot, ...]]]
# what a row is learnt for -> the parts of its turns whose lengths are kept apart
PARTS: Mapping[str, Parts] = {
    "turns": lambda turns: [part for turn in turns for part in (turn.asked, turn.target)],
    "answer": lambda turns: (turns[0].source, turns[0].thought, turns[0].target),
    "pair": lambda turns: (turns[0].asked, turns[0].target, turns[1].target),
}


@dataclass(frozen=True, slots=True)
class Uncut:
    """The ids of R rows one after another (int32), cut nowhere.

    ``row_ends`` int64 [R + 1] and ``part_ends`` int64 [R + 1] begin with 0 and tell where each row ends among ``ids``
    and among ``parts`` (int32, the lengths of each row's parts). ``faults`` are the rows that have none, by number.
    """

    ids: np.ndarray[Any, Any]
    row_ends: np.ndarray[Any, Any]
    parts: np.ndarray[Any, Any]
    part_ends: np.ndarray[Any, Any]
    faults: dict[int, RowFault]

    def row(self, number: int) -> tuple[np.ndarray[Any, Any], list[int]]:
        """The ids and part lengths of one row."""
        ids = self.ids[self.row_ends[number] : self.row_ends[number + 1]]
        return ids, self.parts[self.part_ends[number] : self.part_ends[number + 1]].tolist()


def encode_rows(walked: Sequence[Sequence[Turn] | RowFault], kind: str, tokenizer: TextEncoder) -> Uncut:
    """The ids of rows whose turns are given; ``kind`` is one of ``PARTS``."""
    parts_of = PARTS[kind]
    numbers: dict[Slot, int] = {}
    used: list[int] = []  # the slots of all rows, by number
    slots_a_part: list[int] = []
    parts_a_row: list[int] = []
    faults: dict[int, RowFault] = {}
    for row, turns in enumerate(walked):
        if isinstance(turns, RowFault):
            faults[row] = turns
            parts_a_row.append(0)
            continue
        parts = parts_of(turns)
        for part in parts:
            slots_a_part.append(len(part))
            used += [numbers.setdefault(slot, len(numbers)) for slot in part]
        parts_a_row.append(len(parts))
    return gather(list(numbers), used, slots_a_part, parts_a_row, faults, tokenizer)


def encode_plain(texts: Sequence[str], tokenizer: TextEncoder) -> Uncut:
    """The ids of texts, each a row of one part."""
    numbers: dict[Slot, int] = {}
    used = [numbers.setdefault(text, len(numbers)) for text in texts]
    ones = [1] * len(texts)
    return gather(list(numbers), used, ones, ones, {}, tokenizer)


def gather(
    slots: Sequence[Slot],
    used: Numbers,
    slots_a_part: Numbers,
    parts_a_row: Numbers,
    faults: dict[int, RowFault],
    tokenizer: TextEncoder,
) -> Uncut:
    """The rows whose parts are made of the distinct ``slots`` that ``used`` numbers, ``slots_a_part`` for each part and
    ``parts_a_row`` for each row."""
    import numpy as np

    ids, ends, halves = _encoded(slots, tokenizer)
    of = np.asarray(used, np.int64)
    slots_until, part_ends = _ends(slots_a_part), _ends(parts_a_row)
    if halves:
        row_of = np.searchsorted(slots_until[part_ends], np.arange(len(of)), side="right") - 1
        spoilt = np.unique(row_of[np.isin(of, list(halves))])
        of = np.where(np.isin(row_of, spoilt), min(halves), of)  # which has no ids
        faults = dict.fromkeys(spoilt.tolist(), HALF) | faults
    lengths = np.diff(ends)[of]
    slot_ends = _ends(lengths)
    gathered = ids[np.repeat(ends[:-1][of] - slot_ends[:-1], lengths) + np.arange(slot_ends[-1])]
    parts = slot_ends[slots_until[1:]] - slot_ends[slots_until[:-1]]
    row_ends = slot_ends[slots_until[part_ends]]
    return Uncut(gathered, row_ends, parts.astype(np.int32), part_ends, faults)


def _encoded(
    slots: Sequence[Slot], tokenizer: TextEncoder
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], set[int]]:
    """The ids of distinct slots one after another, where each ends (from 0), and which hold halves of characters."""
    import numpy as np

    texts = [slot if isinstance(slot, str) else "" for slot in slots]
    halves: set[int] = set()
    try:
        ids, ends = flat_ids(texts, tokenizer)
    except (TypeError, ValueError):
        halves = {number for number, text in enumerate(texts) if not is_whole(text)}
        if not halves:
            raise
        ids, ends = flat_ids(["" if number in halves else text for number, text in enumerate(texts)], tokenizer)
    tokens = [(number, slot) for number, slot in enumerate(slots) if isinstance(slot, Token)]
    if tokens:
        found = [(number, token_ids(slot, tokenizer)) for number, slot in tokens]
        ids = np.insert(ids, [ends[number] for number, one in found for _ in one], [i for _, one in found for i in one])
        lengths = np.diff(ends)
        for number, one in found:
            lengths[number] = len(one)
        ends = _ends(lengths)
    return ids, ends, halves


def flat_ids(texts: Sequence[str], tokenizer: TextEncoder) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The ids (int32) of texts one after another, and where each ends (int64, from 0)."""
    import numpy as np

    flat = getattr(tokenizer, "encode_flat", None)
    if flat is not None:
        return flat(texts)
    each = tokenizer.encode_batch(texts)
    return np.array([i for one in each for i in one], np.int32), _ends([len(one) for one in each])


def token_ids(slot: Token, tokenizer: TextEncoder) -> list[int]:
    """The one id that a slot stands for; none where the tokenizer has no such token."""
    own = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.eos_id}
    number = own[slot.of] if slot.of else tokenizer.token_id(slot.text or "")
    return [] if number is None else [number]


def _ends(lengths: Sequence[int] | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Where each of several things of these lengths ends, 0 in front."""
    import numpy as np

    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    return ends
