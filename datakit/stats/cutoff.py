"""What one cutoff_len does to the rows: what is lost, how much of a batch is padding, how many blocks and steps there are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datakit.stats.lengths import Lengths, Totals, totals
from registry.packing import count_blocks

if TYPE_CHECKING:
    from datakit.stats.lengths import Ints

BATCH_SIZE = 8
PAD_MULTIPLE = 8  # the trainer pads a batch to the next multiple of this


@dataclass(frozen=True, slots=True)
class Steps:
    """What makes a step: ``batch_size`` rows (with ``packing`` blocks of whole rows; for pt always blocks, unless
    ``packing`` is False) times ``accumulation``."""

    batch_size: int = BATCH_SIZE
    accumulation: int = 1
    packing: bool | None = None

    def in_epoch(self, num_examples: int) -> int:
        """Optimizer steps of one pass; the last batch and the last step may be smaller."""
        batches = math.ceil(num_examples / self.batch_size)
        return math.ceil(batches / self.accumulation)


@dataclass(frozen=True, slots=True)
class AtCutoff:
    """What one ``cutoff_len`` does to the rows.

    - ``rows_truncated``: rows that lose at least one token; ``rows_lost`` of them lose every trained token, and are
      left out of training with all their tokens.
    - ``tokens_lost``, ``trained_tokens_lost``: the tokens that are gone. For pt, those left at the end of the last block.
    - ``padding_waste``: the share of padded positions to be expected when shuffled rows are padded to the longest of
      their batch, rounded up to a multiple of 8.
    - ``packing_efficiency``: share of places filled when the cut sequences are packed best-fit decreasing into
      blocks of ``cutoff_len`` (context and trained tokens alike count as filled).
    - ``steps_per_epoch``: optimizer steps of one pass, see ``Steps``.
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


def at_cutoff(lengths: Lengths, cutoff_len: int, whole: Totals | None = None, steps: Steps = Steps()) -> AtCutoff:
    """What ``cutoff_len`` (in tokens) does to rows; ``whole`` saves a pass where it is known."""
    import numpy as np

    whole = whole or totals(lengths)
    truncated = num_rows = num_trained = 0
    by_length: Counter[int] = Counter()  # sequences of each length
    by_longest: Counter[int] = Counter()  # rows by the longest of their sequences
    for chunk in lengths.chunks():
        kept = chunk.kept(cutoff_len)
        truncated += int(np.count_nonzero(chunk.row_lengths() > cutoff_len))
        there = kept.sequences[0] > 0
        num_rows += int(np.count_nonzero(there))
        num_trained += int(kept.trained.sum())
        for column in kept.sequences:
            _count(column[there], by_length)
        _count(np.maximum.reduce(kept.sequences)[there], by_longest)
    num_tokens = sum(length * count for length, count in by_length.items())
    blocks = count_blocks(by_length, cutoff_len)
    positions = padded_positions(by_longest, steps.batch_size) * (2 if lengths.kind == "preference" else 1)
    return AtCutoff(
        cutoff_len=cutoff_len,
        rows_truncated=truncated,
        rows_lost=len(lengths) - num_rows,
        tokens_lost=whole.num_tokens - num_tokens,
        trained_tokens_lost=whole.num_trained - num_trained,
        padding_waste=max(1 - num_tokens / positions, 0.0) if positions else 0.0,
        packing_efficiency=num_tokens / (blocks * cutoff_len) if blocks else 0.0,
        steps_per_epoch=steps.in_epoch(blocks if steps.packing else num_rows),
        blocks=blocks,
    )


def _count(values: Ints, counts: Counter[int]) -> None:
    import numpy as np

    found, times = np.unique(values, return_counts=True)
    counts.update(dict(zip(found.tolist(), times.tolist(), strict=True)))


def padded_positions(by_length: Mapping[int, int], batch_size: int) -> float:
    """Positions to be expected when shuffled rows (``by_length[n]`` of length n) go into batches of ``batch_size``.

    A batch is then a random choice of rows, and its longest is at most x with the chance that all of the choice are
    among the rows of at most x: exact, and no matter how the file is sorted.
    """
    import numpy as np

    lengths = np.array(sorted(by_length), np.int64)
    up_to = np.cumsum([by_length[length] for length in lengths.tolist()])
    num_rows = int(up_to[-1]) if len(up_to) else 0
    padded = -(-lengths // PAD_MULTIPLE) * PAD_MULTIPLE

    def longest(size: int) -> float:
        chance = np.ones(len(lengths))
        for i in range(size):
            chance *= np.maximum(up_to - i, 0) / (num_rows - i)
        return float(padded @ np.diff(chance, prepend=0.0))

    full, rest = divmod(num_rows, batch_size)
    return (full * batch_size * longest(batch_size) if full else 0.0) + (rest * longest(rest) if rest else 0.0)


def in_blocks(num_tokens: int, cutoff_len: int, *, opens_with_bos: bool, steps: Steps = Steps()) -> AtCutoff:
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
        steps_per_epoch=steps.in_epoch(blocks),
        blocks=blocks,
    )
