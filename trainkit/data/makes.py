"""How a row becomes an example, by what it is learnt for; lengths of all rows are told without making any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry.cuts import TURNS_END, EncodeRules
from registry.encode import join_feedback
from registry.encoded.rows import EncodedRows
from registry.errors import RowFault
from registry.examples import AnyExample, join_pair, join_prompt, join_turns
from trainkit.data.views import Order, RowView

if TYPE_CHECKING:
    import numpy as np


def parts_by_row(
    sets: Sequence[EncodedRows], order: Order
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The part lengths of an order's rows: all of them one after another, where each row's begin, and how many it has."""
    import numpy as np

    lengths, ends = zip(*(one.part_lengths() for one in sets), strict=True)
    firsts = np.cumsum([0, *(len(one) for one in lengths)])
    starts = np.zeros(len(order), np.int64)
    counts = np.zeros(len(order), np.int64)
    for number, (first, end) in enumerate(zip(firsts, ends, strict=False)):
        mine = order.datasets == number
        rows = order.rows[mine]
        starts[mine] = first + end[rows]
        counts[mine] = end[rows + 1] - end[rows]
    return np.concatenate(lengths) if lengths else np.zeros(0, np.int32), starts, counts


class OneRow:
    """An example is made of one row."""

    def rows(self, order: Order, number: int) -> tuple[int, ...]:
        """The row itself."""
        return (number,)


@dataclass(frozen=True)
class Turns(OneRow):
    """sft: a conversation is one sequence."""

    rules: EncodeRules
    eos: int | None
    leads: bool = True  # whether a row's system text stands before its first message

    def measure(self, sets: Sequence[EncodedRows], order: Order) -> tuple[Any, Any, Any]:
        """As ``Make.measure``: rows within the budget are counted all at once."""
        import numpy as np

        lengths, starts, counts = parts_by_row(sets, order)
        sums = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        is_target = np.zeros(len(lengths), np.bool_)
        if len(lengths):
            # every row has an even number of parts, and each dataset's begin with a source
            is_target[1::2] = True
        targets = np.concatenate([[0], np.cumsum(np.where(is_target, lengths, 0), dtype=np.int64)])
        num_end = int(self.eos is not None)
        totals = sums[starts + counts] - sums[starts] + num_end
        if self.rules.train_on_prompt:
            trained = totals.copy()
        elif self.rules.mask_history:
            trained = (
                np.where(counts > 0, lengths[np.maximum(starts + counts - 1, 0)] if len(lengths) else 0, 0) + num_end
            )
        else:
            trained = targets[starts + counts] - targets[starts] + num_end
        if num_end:  # and one at the start of each later prompt, where there is one
            trained = np.where(counts > 2, -1, trained)
        doubtful = (totals > self.rules.cutoff_len) | (trained <= 0) | _uneven(sets, order)
        return np.where(doubtful, -1, totals).astype(np.int32), trained.astype(np.int32), np.zeros(len(order), np.int32)

    def example(self, view: RowView, number: int) -> AnyExample | RowFault:
        """The conversation under the length budget."""
        ids, parts = view.row(number)
        rows, row = view.set_of(number), int(view.order.rows[number])
        lead = rows.lead(row) if self.leads and self.rules.truncation == TURNS_END else 0
        return join_turns(ids, parts, self.rules, eos=self.eos, weights=rows.weights(row), lead=lead)


def _uneven(sets: Sequence[EncodedRows], order: Order) -> np.ndarray[Any, Any]:
    import numpy as np

    found = np.zeros(len(order), np.bool_)
    for number, one in enumerate(sets):
        if any(shard.has_weights for shard in one.shards):
            mine = order.datasets == number
            found[mine] = one.uneven()[order.rows[mine]]
    return found


@dataclass(frozen=True)
class Pairs(OneRow):
    """rm and dpo: a prompt with two answers."""

    rules: EncodeRules
    eos: int | None

    def measure(self, sets: Sequence[EncodedRows], order: Order) -> tuple[Any, Any, Any]:
        import numpy as np

        lengths, starts, _ = parts_by_row(sets, order)
        prompt, chosen, rejected = (lengths[starts + k].astype(np.int64) for k in range(3))
        num_end = int(self.eos is not None)
        longest = prompt + np.maximum(chosen, rejected) + num_end
        trained = chosen + rejected + 2 * num_end
        doubtful = (longest > self.rules.cutoff_len) | (np.minimum(chosen, rejected) + num_end == 0)
        return (
            np.where(doubtful, -1, longest).astype(np.int32),
            trained.astype(np.int32),
            np.zeros(len(order), np.int32),
        )

    def example(self, view: RowView, number: int) -> AnyExample | RowFault:
        return join_pair(*view.row(number), self.rules, eos=self.eos)


@dataclass(frozen=True)
class Prompts(OneRow):
    """Prediction: a prompt, and the answer to hold against."""

    rules: EncodeRules
    eos: int | None

    def measure(self, sets: Sequence[EncodedRows], order: Order) -> tuple[Any, Any, Any]:
        import numpy as np

        return tuple(np.full(len(order), fill, np.int32) for fill in (-1, 0, 0))  # type: ignore[return-value]

    def example(self, view: RowView, number: int) -> AnyExample | RowFault:
        ids, parts = view.row(number)
        opened = parts[0] + parts[1]
        return join_prompt(ids[:opened], ids[opened:], self.rules, eos=self.eos)


@dataclass(frozen=True)
class Feedback:
    """kto: a judged answer, and the prompt with the answer of the row before it in the order.

    The first of a window has its last one's answer; LLaMA-Factory's windows are its map batches, by default all rows
    are one.
    """

    rules: EncodeRules
    eos: int | None

    def rows(self, order: Order, number: int) -> tuple[int, ...]:
        """The row itself, and the one whose answer goes with its prompt."""
        first, end = order.window_of(number)
        return number, number - 1 if number > first else end - 1

    def measure(self, sets: Sequence[EncodedRows], order: Order) -> tuple[Any, Any, Any]:
        import numpy as np

        lengths, starts, _ = parts_by_row(sets, order)
        prompt, thought, answer = (lengths[starts + k].astype(np.int64) for k in range(3))
        num_end = int(self.eos is not None)
        other = np.arange(len(order)) - 1
        firsts = [0] if order.windows is None else [0, *(np.flatnonzero(np.diff(order.windows)) + 1).tolist()]
        if len(order):
            other[firsts] = np.array([*firsts[1:], len(order)]) - 1
        longest = prompt + np.maximum(thought + answer, (thought + answer)[other]) + num_end
        trained = answer + answer[other] + 2 * num_end
        doubtful = (longest > self.rules.cutoff_len) | (np.minimum(answer, answer[other]) + num_end == 0)
        return (
            np.where(doubtful, -1, longest).astype(np.int32),
            trained.astype(np.int32),
            np.zeros(len(order), np.int32),
        )

    def example(self, view: RowView, number: int) -> AnyExample | RowFault:
        own, other = (view.row(one) for one in self.rows(view.order, number))
        desirable = view.set_of(number).desirable(int(view.order.rows[number]))
        return join_feedback(own, other, self.rules, desirable=desirable, eos=self.eos)
