"""The token lengths of many rows in little memory, and what a cutoff leaves of each: training's own arithmetic."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from registry.encode import EncodeRules, plan_cuts, split_budget
from registry.packing import count_blocks

BATCH_SIZE = 8  # rows a step in every figure that needs a batch; the trainer's own may differ
PAD_MULTIPLE = 8  # the trainer pads a batch to the next multiple of this


@dataclass(frozen=True, slots=True)
class Kept:
    """One sequence of a row as trained: its tokens, and how many of them are trained."""

    num_tokens: int
    num_trained: int


@dataclass
class Lengths:
    """Uncut lengths in tokens, 8 bytes a turn. ``kind`` is ``chat``, ``preference`` (two turns a row) or ``text``.

    ``num_end`` is 1 where one end of sequence follows every conversation (templates with ``efficient_eos``), else 0.
    """

    kind: str
    num_end: int = 0
    firsts: array[int] = field(default_factory=lambda: array("q"))  # where each row's turns begin
    sources: array[int] = field(default_factory=lambda: array("i"))
    targets: array[int] = field(default_factory=lambda: array("i"))

    def __len__(self) -> int:
        return len(self.firsts)

    def add(self, turns: Sequence[tuple[int, int]]) -> None:
        """One more row by the (source, target) lengths of its turns; a text is one turn without a source."""
        self.firsts.append(len(self.sources))
        for source, target in turns:
            self.sources.append(source)
            self.targets.append(target)

    def turns(self) -> Iterator[list[tuple[int, int]]]:
        """Each row's (source, target) lengths, in file order."""
        ends = [*self.firsts[1:], len(self.sources)] if len(self) else []
        for first, end in zip(self.firsts, ends, strict=True):
            yield list(zip(self.sources[first:end], self.targets[first:end], strict=True))

    def rows(self) -> array[int]:
        """Each row's length: the cutoff_len that keeps it whole. Of a preference that is prompt + longer answer."""
        return array("i", (self.row_length(turns) for turns in self.turns()))

    def row_length(self, turns: Sequence[tuple[int, int]]) -> int:
        """The cutoff_len that keeps one row whole."""
        if self.kind == "preference":
            return turns[0][0] + max(target for _, target in turns) + self.num_end
        return sum(source + target for source, target in turns) + self.num_end

    def sequences(self, turns: Sequence[tuple[int, int]], cutoff_len: int | None) -> list[Kept]:
        """What training makes of one row: one sequence of a chat, two of a preference, none where nothing is trained."""
        if self.kind == "preference":
            return self._pair(turns, cutoff_len)
        if cutoff_len is None or self.row_length(turns) <= cutoff_len:
            kept = list(turns)
        else:
            cuts = plan_cuts(turns, EncodeRules(cutoff_len=cutoff_len), efficient_eos=bool(self.num_end))
            kept = [(cut.num_source, cut.num_target) for cut in cuts]
        num_tokens = sum(source + target for source, target in kept) + self.num_end
        # With efficient_eos each later prompt's first place is trained to be the end of the answer before it.
        ends = self.num_end * (1 + sum(source > 0 for source, _ in kept[1:]))
        num_trained = sum(target for _, target in kept) + ends
        return [Kept(num_tokens, num_trained)] if num_trained else []

    def _pair(self, turns: Sequence[tuple[int, int]], cutoff_len: int | None) -> list[Kept]:
        source = turns[0][0]
        answers = [target + self.num_end for _, target in turns]
        longest = max(answers)
        if cutoff_len is not None and source + longest > cutoff_len:
            source, longest = split_budget(source, longest, cutoff_len)
        kept = [min(answer, longest) for answer in answers]
        return [Kept(source + answer, answer) for answer in kept] if all(kept) else []


@dataclass(frozen=True, slots=True)
class Totals:
    """All rows uncut: sequences' tokens and how many of them are trained."""

    num_tokens: int
    num_trained: int


def totals(lengths: Lengths) -> Totals:
    """Tokens of all sequences, uncut; of a preference both are counted, prompt and all."""
    num_tokens = num_trained = 0
    for turns in lengths.turns():
        for sequence in lengths.sequences(turns, None):
            num_tokens += sequence.num_tokens
            num_trained += sequence.num_trained
    return Totals(num_tokens, num_trained)


@dataclass(frozen=True, slots=True)
class AtCutoff:
    """What one ``cutoff_len`` does to the rows.

    - ``rows_truncated``: rows that lose at least one token; ``rows_lost`` of them lose every trained token, and are
      left out of training with all their tokens.
    - ``tokens_lost``, ``trained_tokens_lost``: the tokens that are gone. For pt, those left at the end of the last block.
    - ``padding_waste``: share of padded positions when batches of 8 rows in file order are padded to their longest
      sequence, rounded up to a multiple of 8.
    - ``packing_efficiency``: share of places filled when the cut sequences are packed best-fit decreasing into
      blocks of ``cutoff_len`` (context and trained tokens alike count as filled).
    - ``steps_per_epoch``: optimizer steps of one pass at 8 rows (for pt, 8 blocks) a step, the last one maybe smaller.
    - ``blocks``: those of the packing; for pt, the examples that there are.
    """

    cutoff_len: int
    rows_truncated: int
    rows_lost: int
    tokens_lost: int
    trained_tokens_lost: int
    padding_waste: float
    packing_efficiency: float
    steps_per_epoch: int
    blocks: int


def at_cutoff(lengths: Lengths, cutoff_len: int, whole: Totals | None = None) -> AtCutoff:
    """What ``cutoff_len`` (in tokens) does to chats or preferences; ``whole`` saves a pass where it is known."""
    whole = whole or totals(lengths)
    counts: Counter[int] = Counter()
    num_tokens = num_trained = num_rows = truncated = lost = positions = 0
    batch: list[int] = []
    for turns in lengths.turns():
        cut = lengths.sequences(turns, cutoff_len)
        truncated += lengths.row_length(turns) > cutoff_len
        if not cut:
            lost += 1
            continue
        num_rows += 1
        for sequence in cut:
            counts[sequence.num_tokens] += 1
            num_tokens += sequence.num_tokens
            num_trained += sequence.num_trained
            batch.append(sequence.num_tokens)
        if num_rows % BATCH_SIZE == 0:
            positions += _padded(batch)
            batch = []
    positions += _padded(batch)
    blocks = count_blocks(counts, cutoff_len)
    return AtCutoff(
        cutoff_len=cutoff_len,
        rows_truncated=truncated,
        rows_lost=lost,
        tokens_lost=whole.num_tokens - num_tokens,
        trained_tokens_lost=whole.num_trained - num_trained,
        padding_waste=1 - num_tokens / positions if positions else 0.0,
        packing_efficiency=num_tokens / (blocks * cutoff_len) if blocks else 0.0,
        steps_per_epoch=-(-num_rows // BATCH_SIZE),
        blocks=blocks,
    )


def _padded(batch: Sequence[int]) -> int:
    """Positions of a batch padded to its longest sequence."""
    return len(batch) * -(-max(batch, default=0) // PAD_MULTIPLE) * PAD_MULTIPLE


def in_blocks(num_tokens: int, cutoff_len: int, *, opens_with_bos: bool) -> AtCutoff:
    """What cutting ``num_tokens`` of text into blocks of ``cutoff_len`` leaves over (``registry.texts``)."""
    taken = max(cutoff_len - opens_with_bos, 1)
    blocks, dropped = divmod(num_tokens, taken)
    return AtCutoff(
        cutoff_len=cutoff_len,
        rows_truncated=0,
        rows_lost=0,
        tokens_lost=dropped,
        trained_tokens_lost=dropped,
        padding_waste=0.0,
        packing_efficiency=1.0 if blocks else 0.0,
        steps_per_epoch=-(-blocks // BATCH_SIZE),
        blocks=blocks,
    )
