"""The token lengths of many rows in little memory, and what a cutoff keeps of each: training's own arithmetic on columns."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Ints = np.ndarray[Any, np.dtype[np.int64]]

CHUNK_ROWS = 1 << 16  # rows that are looked at together, so that what is made of them stays small


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one file or dataset: ``name``, and where its first row and that row's first turn stand."""

    name: str
    first_row: int
    first_turn: int


@dataclass
class Lengths:
    """Uncut lengths in tokens: 4 bytes a row and 8 a turn (12 a row of question and answer, 20 a preference).

    ``kind`` is ``chat``, ``preference`` (two turns a row, with one prompt), ``feedback`` (one turn a row) or ``text``
    (one turn without a source). ``num_end`` is 1 where one end of sequence follows every conversation (templates with
    ``efficient_eos``), else 0.
    """

    kind: str
    num_end: int = 0
    num_turns: array[int] = field(default_factory=lambda: array("i"))
    sources: array[int] = field(default_factory=lambda: array("i"))
    targets: array[int] = field(default_factory=lambda: array("i"))
    parts: list[Part] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.num_turns)

    def begin(self, name: str) -> None:
        """The rows that follow belong to the part ``name``."""
        if not self.parts or self.parts[-1].name != name:
            self.parts.append(Part(name, len(self), len(self.sources)))

    def extend(self, num_turns: Sequence[int], sources: Sequence[int], targets: Sequence[int]) -> None:
        """More rows, by how many turns each has and the lengths of all their turns in order."""
        self.num_turns.extend(num_turns)
        self.sources.extend(sources)
        self.targets.extend(targets)

    def add(self, turns: Sequence[tuple[int, int]]) -> None:
        """One more row by the (source, target) lengths of its turns."""
        self.extend([len(turns)], [source for source, _ in turns], [target for _, target in turns])

    def turns(self) -> Iterator[list[tuple[int, int]]]:
        """Each row's (source, target) lengths, in file order."""
        both = iter(zip(self.sources, self.targets, strict=True))
        for count in self.num_turns:
            yield [next(both) for _ in range(count)]

    def chunks(self, part: Part | None = None) -> Iterator[Chunk]:
        """The rows (of one part) as columns, some hundred thousand at a time."""
        import numpy as np

        ends = {p.first_row: e.first_row for p, e in zip(self.parts, self.parts[1:], strict=False)}
        row, turn = (part.first_row, part.first_turn) if part else (0, 0)
        end = ends.get(row, len(self)) if part else len(self)
        num_turns, sources, targets = (np.frombuffer(a, np.int32) for a in (self.num_turns, self.sources, self.targets))
        while row < end:
            counts = num_turns[row : min(row + CHUNK_ROWS, end)].astype(np.int64)
            total = int(counts.sum())
            taken = slice(turn, turn + total)
            yield Chunk(self, counts, sources[taken].astype(np.int64), targets[taken].astype(np.int64))
            row, turn = row + len(counts), turn + total

    def rows(self, part: Part | None = None) -> np.ndarray[Any, np.dtype[np.int32]]:
        """Each row's length: the cutoff_len that keeps it whole. Of a preference that is prompt + longer answer."""
        import numpy as np

        return np.concatenate([np.empty(0, np.int32), *(c.row_lengths().astype(np.int32) for c in self.chunks(part))])


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows as columns: how many turns each has, and the lengths of all their turns one after another."""

    whole: Lengths
    num_turns: Ints
    sources: Ints
    targets: Ints

    def firsts(self) -> Ints:
        """Where each row's turns begin."""
        import numpy as np

        return np.cumsum(self.num_turns) - self.num_turns

    def sides(self) -> tuple[Ints, list[Ints]]:
        """Of rows with one prompt: the prompts, and the answers (one column, of preferences two) with what ends them."""
        sides = 2 if self.whole.kind == "preference" else 1
        return self.sources[::sides], [self.targets[i::sides] + self.whole.num_end for i in range(sides)]

    def row_lengths(self) -> Ints:
        """The cutoff_len that keeps each row whole."""
        import numpy as np

        if self.whole.kind in ("preference", "feedback"):
            prompts, answers = self.sides()
            return prompts + np.maximum.reduce(answers)
        return np.add.reduceat(self.sources + self.targets, self.firsts()) + self.whole.num_end

    def kept(self, cutoff_len: int | None) -> Kept:
        """What training makes of each row within ``cutoff_len`` tokens, of whole rows where it is None."""
        if self.whole.kind in ("preference", "feedback"):
            return self._kept_answers(cutoff_len)
        return self._kept_turns(cutoff_len)

    def _kept_answers(self, cutoff_len: int | None) -> Kept:
        import numpy as np

        prompts, answers = self.sides()
        if cutoff_len is not None:
            longest = np.maximum.reduce(answers)
            cut = prompts + longest > cutoff_len
            short_prompt, short_answer = split_columns(prompts, longest, np.full_like(prompts, cutoff_len))
            prompts = np.where(cut, short_prompt, prompts)
            answers = [np.where(cut, np.minimum(answer, short_answer), answer) for answer in answers]
        trained = np.logical_and.reduce([answer > 0 for answer in answers])
        sequences = tuple(np.where(trained, prompts + answer, 0) for answer in answers)
        return Kept(sequences, np.where(trained, sum(answers), 0))

    def _kept_turns(self, cutoff_len: int | None) -> Kept:
        import numpy as np

        firsts, num_end = self.firsts(), self.whole.num_end
        tokens = self.row_lengths()
        trained = np.add.reduceat(self.targets, firsts)
        if num_end:  # each later prompt's first place is trained to be the end of the answer before it
            later = self.sources > 0
            later[firsts] = False
            trained = trained + 1 + np.add.reduceat(later, firsts, dtype=np.int64)
        if cutoff_len is not None:
            rows = np.flatnonzero(tokens > cutoff_len)
            tokens[rows], trained[rows] = self._cut_turns(rows, firsts[rows], cutoff_len)
        return Kept((np.where(trained > 0, tokens, 0),), trained)

    def _cut_turns(self, rows: Ints, firsts: Ints, cutoff_len: int) -> tuple[Ints, Ints]:
        """Tokens and trained tokens that ``registry.encode.plan_cuts`` leaves of rows too long for ``cutoff_len``."""
        import numpy as np

        num_end = self.whole.num_end
        tokens, trained = np.full(len(rows), num_end), np.full(len(rows), num_end)
        open_rows, turn = np.arange(len(rows)), 0
        while True:
            open_rows = open_rows[(turn < self.num_turns[rows[open_rows]]) & (tokens[open_rows] < cutoff_len)]
            if not len(open_rows):
                return tokens, trained
            at = firsts[open_rows] + turn
            sources, targets = split_columns(self.sources[at], self.targets[at], cutoff_len - tokens[open_rows])
            tokens[open_rows] += sources + targets
            trained[open_rows] += targets + (num_end * (sources > 0) if turn else 0)
            turn += 1


@dataclass(frozen=True, slots=True)
class Kept:
    """Rows as trained: the tokens of each row's ``sequences`` (one column, of preferences two; 0 where no trained token
    is left, for then the row is not trained on), and its trained tokens."""

    sequences: tuple[Ints, ...]
    trained: Ints


def split_columns(sources: Ints, targets: Ints, budgets: Ints) -> tuple[Ints, Ints]:
    """``registry.encode.split_budget`` of many turns at once; budgets are above 0."""
    import numpy as np

    shares = targets / np.maximum(sources + targets, 1)
    allowances = np.where(
        2 * targets < budgets, budgets, np.where(2 * sources < budgets, budgets - sources, (budgets * shares).astype(np.int64))
    )  # fmt: skip
    kept = np.minimum(allowances, targets)
    return np.minimum(np.maximum(budgets - kept, 0), sources), kept


@dataclass(frozen=True, slots=True)
class Totals:
    """All rows uncut: the tokens of their sequences, and how many of them are trained."""

    num_tokens: int
    num_trained: int


def totals(lengths: Lengths, part: Part | None = None) -> Totals:
    """Tokens of all sequences, uncut; of a preference both are counted, prompt and all."""
    num_tokens = num_trained = 0
    for chunk in lengths.chunks(part):
        kept = chunk.kept(None)
        num_tokens += sum(int(column.sum()) for column in kept.sequences)
        num_trained += int(kept.trained.sum())
    return Totals(num_tokens, num_trained)
