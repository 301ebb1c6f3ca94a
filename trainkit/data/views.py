"""Views of encoded rows: which rows a run sees, in which order, and the example that each becomes when it is asked for."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from registry.cuts import IGNORE, TURNS_END, EncodeRules
from registry.encode import join_feedback
from registry.encoded.rows import EncodedRows
from registry.errors import RowFault
from registry.examples import AnyExample, Example, join_pair, join_prompt, join_turns, sides_of
from registry.texts import TextRules

if TYPE_CHECKING:
    import numpy as np


class View(ABC):
    """The examples of a run in their order, made when they are asked for.

    ``lengths`` (tokens, of preference pairs and feedback those of the longer sequence), ``trained`` and ``cut``
    (tokens) have an entry an example, int32.
    """

    lengths: np.ndarray[Any, Any]
    trained: np.ndarray[Any, Any]
    cut: np.ndarray[Any, Any]

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[AnyExample]:
        return (self[number] for number in range(len(self)))

    @abstractmethod
    def __getitem__(self, number: int) -> AnyExample: ...

    @abstractmethod
    def digest(self) -> str:
        """A hash of what decides every id and label in order."""


@dataclass(frozen=True, slots=True)
class Order:
    """Rows of several datasets in the order in which a run sees them: which dataset (int16), and which row (int64)."""

    datasets: np.ndarray[Any, Any]
    rows: np.ndarray[Any, Any]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: np.ndarray[Any, Any]) -> Order:
        """The chosen ones, by number or by mask."""
        return Order(self.datasets[chosen], self.rows[chosen])


@dataclass(frozen=True, slots=True)
class Lost:
    """A row that becomes no example, by its number in an order, and why."""

    number: int
    fault: RowFault


class RowView(View):
    """Examples of one row each: conversations, preference pairs, prompts."""

    def __init__(self, sets: Sequence[EncodedRows], order: Order, make: Make, keys: Sequence[str]) -> None:
        """``make`` gives the example of a row; all rows of ``order`` have ids."""
        import numpy as np

        self.sets, self.order, self._make = sets, order, make
        self.keys = tuple(keys)
        self.lost: list[Lost] = []
        kept = np.ones(len(order), np.bool_)
        self.lengths, self.trained, self.cut = make.measure(sets, order)
        for number in np.flatnonzero(self.lengths < 0).tolist():
            example = make.example(self, number)
            if isinstance(example, RowFault):
                kept[number] = False
                self.lost.append(Lost(number, example))
                continue
            sides = sides_of(example)
            self.lengths[number] = max(len(side.ids) for side in sides)
            self.trained[number] = sum(side.num_trained for side in sides)
            self.cut[number] = sum(side.num_cut for side in sides)
        self.kept = np.flatnonzero(kept)
        if len(self.kept) < len(kept):
            self.lengths, self.trained, self.cut = (a[self.kept] for a in (self.lengths, self.trained, self.cut))

    def __getitem__(self, number: int) -> AnyExample:
        example = self._make.example(self, int(self.kept[number]))
        assert not isinstance(example, RowFault), example
        return example

    def row(self, number: int) -> tuple[np.ndarray[Any, Any], list[int]]:
        """The uncut ids and part lengths of the ``number``-th row of the order."""
        return self.set_of(number).row(int(self.order.rows[number]))

    @property
    def make(self) -> Make:
        """How a row becomes an example."""
        return self._make

    def places(self, number: int) -> list[tuple[str, int]]:
        """The file and the row (from 1) of the ``number``-th example; of feedback also those of the answer in its KL
        part."""
        at = int(self.kept[number])
        rows = [at, self._make.before(at, len(self.order))] if isinstance(self._make, Feedback) else [at]
        return [self.set_of(one).place(int(self.order.rows[one])) for one in rows]

    def set_of(self, number: int) -> EncodedRows:
        return self.sets[int(self.order.datasets[number])]

    def digest(self) -> str:
        """A hash of everything that decides the examples: equal for two runs on equal data."""
        found = hashlib.sha256(repr((self.keys, self._make)).encode())
        found.update(self.order.datasets.tobytes() + self.order.rows.tobytes())
        return found.hexdigest()[:16]


class Make(Protocol):
    """How a row becomes an example."""

    def measure(self, sets: Sequence[EncodedRows], order: Order) -> tuple[Any, Any, Any]:
        """Lengths, trained and cut tokens of each row (int32); a length of -1 where only the example itself can tell."""
        ...

    def example(self, view: RowView, number: int) -> AnyExample | RowFault: ...


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


@dataclass(frozen=True)
class Turns:
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
class Pairs:
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
class Prompts:
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

    Within ``window`` rows the first has the last one's answer; LLaMA-Factory's windows are its map batches of 1,000,
    None takes the whole order as one.
    """

    rules: EncodeRules
    eos: int | None
    window: int | None = None

    def before(self, number: int, size: int) -> int:
        """The row whose answer goes with the prompt of the ``number``-th of ``size``."""
        window = self.window or size
        first = number // window * window
        return number - 1 if number > first else min(first + window, size) - 1

    def measure(self, sets: Sequence[EncodedRows], order: Order) -> tuple[Any, Any, Any]:
        import numpy as np

        lengths, starts, _ = parts_by_row(sets, order)
        prompt, thought, answer = (lengths[starts + k].astype(np.int64) for k in range(3))
        num_end = int(self.eos is not None)
        other = np.array([self.before(n, len(order)) for n in range(len(order))], np.int64)
        longest = prompt + np.maximum(thought + answer, (thought + answer)[other]) + num_end
        trained = answer + answer[other] + 2 * num_end
        doubtful = (longest > self.rules.cutoff_len) | (np.minimum(answer, answer[other]) + num_end == 0)
        return (
            np.where(doubtful, -1, longest).astype(np.int32),
            trained.astype(np.int32),
            np.zeros(len(order), np.int32),
        )

    def example(self, view: RowView, number: int) -> AnyExample | RowFault:
        own, other = view.row(number), view.row(self.before(number, len(view.order)))
        desirable = view.set_of(number).desirable(int(view.order.rows[number]))
        return join_feedback(own, other, self.rules, desirable=desirable, eos=self.eos)


class TextView(View):
    """pt: the tokens of all texts in order, cut into blocks of one length, or one example a text.

    Blocks are cut where they fall when they are asked for: nothing is copied together beforehand.
    """

    def __init__(
        self, sets: Sequence[EncodedRows], order: Order, rules: TextRules, keys: Sequence[str], *, masked: int | None
    ) -> None:
        """``masked`` is an id whose labels are left out (LLaMA-Factory's collator does so with padding's)."""
        import numpy as np

        self.sets, self.order, self.rules, self.keys, self.masked = sets, order, rules, tuple(keys), masked
        self.lost: list[Lost] = []
        lengths, starts, _ = parts_by_row(sets, order)
        self._sizes = lengths[starts].astype(np.int64) if len(order) else np.zeros(0, np.int64)
        self._ends = np.concatenate([[0], np.cumsum(self._sizes)])
        has_bos = rules.bos_id is not None
        if not rules.blocks:
            whole = self._sizes + int(has_bos)
            self.lengths = np.minimum(whole, rules.cutoff_len).astype(np.int32)
            self.cut = (whole - self.lengths).astype(np.int32)
            self.dropped = 0
        else:
            self._taken = rules.cutoff_len - int(has_bos and not rules.strict)
            window = rules.window or max(len(order), 1)
            edges = self._ends[[*range(0, len(order), window), len(order)]]
            per_window = np.diff(edges) // self._taken
            self._window_starts, self._blocks = edges[:-1], np.concatenate([[0], np.cumsum(per_window)])
            num_blocks = int(self._blocks[-1])
            self.dropped = int(self._ends[-1]) - num_blocks * self._taken
            self.lengths = np.full(num_blocks, rules.cutoff_len, np.int32)
            self.cut = np.zeros(num_blocks, np.int32)
        self.trained = self.lengths

    def __getitem__(self, number: int) -> Example:
        import numpy as np

        rules = self.rules
        bos = [] if rules.bos_id is None else [rules.bos_id]
        if rules.blocks:
            start = self._start(number)
            ids = self._stream(start, start + self._taken)
            if bos:
                ids = np.concatenate([bos, ids[1:] if rules.strict else ids])
        else:
            ids = np.concatenate([bos, self._text(number)])[: rules.cutoff_len]
        held = array("i", ids.astype(np.int32, copy=False).tobytes())
        labels = held if self.masked is None else array("i", [IGNORE if i == self.masked else i for i in held])
        return Example(held, labels, int(self.cut[number]))

    def _start(self, number: int) -> int:
        """Where a block begins among the tokens of all texts."""
        import numpy as np

        window = int(np.searchsorted(self._blocks, number, side="right")) - 1
        return int(self._window_starts[window]) + (number - int(self._blocks[window])) * self._taken

    def places(self, number: int) -> list[tuple[str, int, int]]:
        """The texts of an example in order: file, row (from 1), and which of its tokens is the text's first."""
        import numpy as np

        texts, starts = [number], [0]
        if self.rules.blocks:
            start = self._start(number)
            first, end = np.searchsorted(self._ends, (start, start + self._taken - 1), side="right") - 1
            texts = [text for text in range(first, end + 1) if self._sizes[text]]
            opening = self.rules.cutoff_len - self._taken  # a BOS of its own stands before the text
            starts = [max(int(self._ends[text]) - start, 0) + opening for text in texts]
            starts[0] = 0
        found = []
        for text, at in zip(texts, starts, strict=True):
            found.append((*self.sets[int(self.order.datasets[text])].place(int(self.order.rows[text])), at))
        return found

    def _text(self, number: int) -> np.ndarray[Any, Any]:
        return self.sets[int(self.order.datasets[number])].row(int(self.order.rows[number]))[0]

    def _stream(self, start: int, end: int) -> np.ndarray[Any, Any]:
        """Tokens ``start`` to ``end`` of all texts one after another."""
        import numpy as np

        text = int(np.searchsorted(self._ends, start, side="right")) - 1
        pieces = []
        while start < end:
            first = int(self._ends[text])
            piece = self._text(text)[start - first : end - first]
            pieces.append(piece)
            start += len(piece)
            text += 1
        return np.concatenate(pieces)

    def digest(self) -> str:
        """A hash of everything that decides the examples."""
        found = hashlib.sha256(repr((self.keys, self.rules, self.masked)).encode())
        found.update(self.order.datasets.tobytes() + self.order.rows.tobytes())
        return found.hexdigest()[:16]


class Joined(View):
    """Several views as one, their examples numbered through."""

    def __init__(self, views: Sequence[View]) -> None:
        import numpy as np

        self.views = list(views)
        self._firsts = [0]
        for view in self.views:
            self._firsts.append(self._firsts[-1] + len(view))
        empty = np.zeros(0, np.int32)
        self.lengths, self.trained, self.cut = (
            np.concatenate([getattr(view, name) for view in self.views] or [empty])
            for name in ("lengths", "trained", "cut")
        )

    def __getitem__(self, number: int) -> AnyExample:
        which = bisect_right(self._firsts, number) - 1
        return self.views[which][number - self._firsts[which]]

    def digest(self) -> str:
        """A hash of all."""
        return hashlib.sha256("".join(view.digest() for view in self.views).encode()).hexdigest()[:16]
