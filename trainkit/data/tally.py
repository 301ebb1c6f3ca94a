"""Where the tokens of a run's examples come from: how many each role has, how many are trained, and whether the end is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from registry.cuts import IGNORE
from registry.encoded.rows import EncodedRows
from registry.encoded.shard import ROLES
from registry.errors import RowFault
from registry.examples import sides_of
from trainkit.data.makes import Feedback, Pairs, Turns, parts_by_row
from trainkit.data.text_view import TextView
from trainkit.data.views import Order, RowView, View

if TYPE_CHECKING:
    import numpy as np

    Ints = np.ndarray[Any, Any]

# The kinds of tokens that are told apart; the first are the roles of messages, by their numbers in the encoded rows.
KINDS = (*ROLES, "system", "end", "prompt", "chosen", "rejected", "answer", "kl", "text")
SYSTEM, END, PROMPT, CHOSEN, REJECTED, ANSWER, KL, TEXT = range(len(ROLES), len(KINDS))
MARK = 64  # added to the kind of the token that ends an answer
TAIL = 8  # tokens at the end of an answer among which its end marker is looked for


@dataclass
class Ends:
    """The end markers of answers: those that are ``trained``, lost to a cut (``cut_off``), kept and not trained
    (``not_trained``), and the answers that have none at all (``missing``)."""

    trained: int = 0
    cut_off: int = 0
    not_trained: int = 0
    missing: int = 0

    @property
    def answers(self) -> int:
        return self.trained + self.cut_off + self.not_trained + self.missing


@dataclass
class Tally:
    """Tokens and trained tokens by kind, after cutting, and the end markers of the last answers."""

    tokens: dict[str, int] = field(default_factory=dict)
    trained: dict[str, int] = field(default_factory=dict)
    ends: Ends = field(default_factory=Ends)

    @property
    def num_tokens(self) -> int:
        return sum(self.tokens.values())

    @property
    def num_trained(self) -> int:
        return sum(self.trained.values())


def tally(view: View, stop_ids: Iterable[int]) -> Tally:
    """Count the tokens of all examples of a view. ``stop_ids`` end an answer.

    Rows that are kept whole are counted all at once; the others by the very code that makes their examples, which is
    given the kind of each token in place of its id.
    """
    import numpy as np

    counts = np.zeros((2, len(KINDS)), np.int64)  # tokens, trained tokens
    ends = Ends()
    stops = np.array(sorted(set(stop_ids)), np.int32)
    if isinstance(view, TextView):
        counts[:, TEXT] = int(view.lengths.sum(dtype=np.int64)), int(view.trained.sum(dtype=np.int64))
        _count_texts(view, stops, ends)
    elif isinstance(view, RowView) and len(view):
        marked = _Marked(view, stops)
        whole = marked.whole()
        _count_whole(view, view.kept[whole], marked, counts, ends)
        for number in view.kept[~whole].tolist():
            _count_marked(marked, number, counts, ends)
    elif not isinstance(view, RowView) and len(view):
        raise TypeError(f"no tally of {type(view).__name__}")
    found = [{KINDS[n]: int(row[n]) for n in _in_order() if counts[0][n] or counts[1][n]} for row in counts]
    return Tally(found[0], found[1], ends)


def _in_order() -> list[int]:
    """Kinds as they are told: the system text first, the end last."""
    return [SYSTEM, *range(len(ROLES)), PROMPT, CHOSEN, REJECTED, ANSWER, KL, TEXT, END]


class _Marked:
    """The rows of a view with the kind of each token in place of its id."""

    def __init__(self, view: RowView, stops: Ints) -> None:
        self.view, self.order = view, view.order
        make = view.make
        self.eos = getattr(make, "eos", None) is not None
        self.make: Any = replace(make, eos=END) if self.eos else make  # type: ignore[type-var]
        self.turns, self.pairs = isinstance(make, Turns), isinstance(make, Pairs)
        self.leads = [rows.leads() if getattr(make, "leads", True) else rows.leads() * 0 for rows in view.sets]
        self.lengths, self.starts, self.counts = parts_by_row(view.sets, view.order)
        self.kinds = self._kinds()
        # How far from the end of the row its answers' end markers stand, 0 where there is none.
        self.marks = [_end_markers(rows, stops, pairs=self.pairs) for rows in view.sets]

    def _kinds(self) -> Ints:
        """The kind of every part of all sets."""
        import numpy as np

        if self.turns:
            return np.concatenate([rows.part_roles() for rows in self.view.sets])
        three = (PROMPT, CHOSEN, REJECTED) if self.pairs else (PROMPT, PROMPT, ANSWER)
        found = np.zeros(len(self.lengths), np.int8)
        for place, kind in enumerate(three):
            found[self.starts + place] = kind
        return found

    def whole(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which examples of the view hold all of their row, every answer counting alike."""
        import numpy as np

        view, even = self.view, np.ones(len(self.view), np.bool_)
        if self.turns:
            for number, rows in enumerate(view.sets):
                if any(shard.has_weights for shard in rows.shards):
                    mine = view.order.datasets[view.kept] == number
                    even[mine] = ~rows.uneven()[view.order.rows[view.kept[mine]]]
        return (view.cut == 0) & even

    def take(self, columns: Sequence[Ints], numbers: Ints) -> Ints:
        """A column that each set has, for rows of the order."""
        import numpy as np

        found = np.zeros(len(numbers), np.int64)
        for number, column in enumerate(columns):
            mine = self.order.datasets[numbers] == number
            found[mine] = column[self.order.rows[numbers[mine]]]
        return found

    def row(self, number: int) -> tuple[Ints, list[int]]:
        """As ``RowView.row``, with kinds for ids."""
        import numpy as np

        start, count = int(self.starts[number]), int(self.counts[number])
        parts = self.lengths[start : start + count]
        made = np.repeat(self.kinds[start : start + count].astype(np.int32), parts)
        one, row = int(self.order.datasets[number]), int(self.order.rows[number])
        made[: min(int(self.leads[one][row]), int(parts[0]) if len(parts) else 0)] = SYSTEM
        for back in self.marks[one][row].tolist():
            if back:
                made[len(made) - back] += MARK
        return made, parts.tolist()

    def set_of(self, number: int) -> EncodedRows:
        return self.view.set_of(number)


def _count_marked(marked: _Marked, number: int, counts: Ints, ends: Ends) -> None:
    """Add one example, made of kinds."""
    import numpy as np

    example = marked.make.example(marked, number)
    assert not isinstance(example, RowFault), example
    held = marked.marks[int(marked.order.datasets[number])][int(marked.order.rows[number])].tolist()
    judged = isinstance(marked.make, Feedback)
    for side_number, side in enumerate(sides_of(example)):
        kl = judged and side_number == 1
        ids, labels = (np.array(values, np.int64) for values in (side.ids, side.labels))
        trained = labels[labels != IGNORE]
        if kl:
            counts[0, KL] += len(ids)
            counts[1, KL] += len(trained)
            continue
        counts[0] += np.bincount(ids % MARK, minlength=len(KINDS))
        counts[1] += np.bincount(trained % MARK, minlength=len(KINDS))
        if marked.eos:
            # It is added after every cut, and counts as the answer before it does.
            if len(labels) and labels[-1] != IGNORE:
                ends.trained += 1
            else:
                ends.not_trained += 1
        elif not held[side_number]:
            ends.missing += 1
        elif (trained >= MARK).any():
            ends.trained += 1
        elif (ids >= MARK).any():
            ends.not_trained += 1
        else:
            ends.cut_off += 1


def _count_whole(view: RowView, numbers: Ints, marked: _Marked, counts: Ints, ends: Ends) -> None:
    """Add examples (by their number in the order) that hold all of their row."""
    import numpy as np

    if not len(numbers):
        return
    held = [marks != 0 for marks in marked.marks]
    for column in range(held[0].shape[1]):
        there = int(marked.take([one[:, column] for one in held], numbers).sum())
        if marked.eos:
            ends.trained += len(numbers)
        else:
            ends.trained += there
            ends.missing += len(numbers) - there
    leads = marked.take(marked.leads, numbers)
    starts, first = marked.starts[numbers], marked.lengths[marked.starts[numbers]]
    leads = np.minimum(leads, first)
    if isinstance(view.make, Turns):
        _count_turns(view.make, marked, numbers, leads, counts)
        return
    sides = 2 if marked.pairs else 1
    prompt, second, third = (marked.lengths[starts + place].astype(np.int64) for place in range(3))
    num_end = len(numbers) if marked.eos else 0
    counts[0, SYSTEM] += sides * leads.sum()
    counts[0, PROMPT] += sides * (prompt - leads).sum()
    if marked.pairs:
        counts[:, CHOSEN] += second.sum()
        counts[:, REJECTED] += third.sum()
        counts[:, END] += 2 * num_end
        return
    counts[0, PROMPT] += second.sum()  # an empty thought, which is not trained
    counts[:, ANSWER] += third.sum()
    counts[:, END] += num_end
    if isinstance(view.make, Feedback):
        other = np.array([view.make.rows(view.order, n)[1] for n in numbers.tolist()], np.int64)
        thoughts, answers = (marked.lengths[marked.starts[other] + place].sum(dtype=np.int64) for place in (1, 2))
        counts[0, KL] += prompt.sum() + thoughts + answers + num_end
        counts[1, KL] += answers + num_end


def _count_turns(make: Turns, marked: _Marked, numbers: Ints, leads: Ints, counts: Ints) -> None:
    """Conversations that are kept whole."""
    import numpy as np

    num_parts, starts = marked.counts[numbers], marked.starts[numbers]
    firsts = np.cumsum(num_parts) - num_parts
    within = np.arange(int(num_parts.sum())) - np.repeat(firsts, num_parts)
    at = np.repeat(starts, num_parts) + within
    lengths, kinds = marked.lengths[at].astype(np.int64), marked.kinds[at].astype(np.int64)
    last = np.repeat(num_parts, num_parts) - 2  # of each row's parts, the last source
    is_target = within % 2 == 1
    trained = is_target & ((within > last) if make.rules.mask_history else True)
    if make.rules.train_on_prompt:
        trained = np.ones_like(is_target)
    opening = np.where(within == 0, np.repeat(leads, num_parts), 0)
    for number, chosen in enumerate((np.ones_like(is_target), trained)):
        weights = np.where(chosen, lengths - opening, 0)
        counts[number] += np.bincount(kinds, weights=weights, minlength=len(KINDS)).astype(np.int64)
        counts[number, SYSTEM] += int(opening[chosen].sum())
    if not marked.eos:
        return
    counts[:, END] += len(numbers)
    # The first token of a later prompt is labelled with the end of the answer before it.
    later = ~is_target & (lengths > 0) & (within != (last if make.rules.mask_history else 0))
    if make.rules.mask_history and not make.rules.strict:  # answers before the last are not trained, nor are their ends
        later[:] = False
    counts[1, END] += int(later.sum())
    if make.rules.train_on_prompt:
        counts[1] -= np.bincount(kinds[later], minlength=len(KINDS))


def _end_markers(rows: EncodedRows, stops: Ints, *, pairs: bool) -> Ints:
    """For every row, how many tokens from its end the marker that ends its last answer stands (1 is the last token; 0:
    there is none among the answer's last ones); of pairs, that of the chosen and of the rejected answer."""
    import numpy as np

    found = []
    for shard in rows.shards:
        made = np.zeros((shard.num_rows, 2 if pairs else 1), np.int64)
        there = np.flatnonzero(np.diff(shard.part_ends) > 0)
        ends, last = shard.ends[there + 1].astype(np.int64), shard.part_ends[there + 1] - 1
        sizes = shard.parts[last].astype(np.int64)
        answers = [(ends - sizes, shard.parts[last - 1]), (ends, sizes)] if pairs else [(ends, sizes)]
        for column, (stop, size) in enumerate(answers):
            for back in range(1, TAIL + 1):
                open_rows = np.flatnonzero((made[there, column] == 0) & (size >= back))
                ids = shard.ids[stop[open_rows] - back]
                hit = open_rows[np.isin(ids, stops)]
                made[there[hit], column] = ends[hit] - stop[hit] + back
        found.append(made)
    return np.concatenate(found) if found else np.zeros((0, 2 if pairs else 1), np.int64)


def _count_texts(view: TextView, stops: Ints, ends: Ends) -> None:
    """The ends of texts. In blocks none is cut off, but for the last tokens that fill no block."""
    import numpy as np

    order: Order = view.order
    markers = [_end_markers(rows, stops, pairs=False)[:, 0] == 1 for rows in view.sets]
    held = np.zeros(len(order), np.bool_)
    for number, column in enumerate(markers):
        mine = order.datasets == number
        held[mine] = column[order.rows[mine]]
    ends.missing = int((~held).sum())
    lost = np.zeros(len(order), np.bool_) if view.rules.blocks else view.cut > 0
    ends.cut_off = int((held & lost).sum())
    kept = int((held & ~lost).sum())
    if view.masked is not None and view.masked in stops.tolist():
        ends.not_trained = kept
    else:
        ends.trained = kept
