"""The examples of one block after one another, with the positions and the numbers that tell them apart."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from registry.encode import IGNORE, Example


@dataclass(frozen=True, slots=True)
class Packed:
    """One block; all its arrays have the block's length.

    ``positions`` start at 0 in each example and are 0 in the padding. ``segments`` number the examples from 1 and are
    0 in the padding. ``weights`` is there where some example has weights of its own.
    """

    ids: array[int] = field(default_factory=lambda: array("i"))
    labels: array[int] = field(default_factory=lambda: array("i"))
    positions: array[int] = field(default_factory=lambda: array("i"))
    segments: array[int] = field(default_factory=lambda: array("i"))
    weights: array[float] | None = None


def join_block(examples: Sequence[Example], block_len: int, pad_id: int, *, strict: bool) -> Packed:
    """Join ``examples`` and pad them to ``block_len`` tokens.

    An example's first token is not trained, trained though it may be alone: the token before it is another example's.
    ``strict`` keeps its label, as LLaMA-Factory 0.9.5. Raises ``ValueError`` where they do not fit.
    """
    block = Packed(weights=array("f") if any(example.weights is not None for example in examples) else None)
    for number, example in enumerate(examples, start=1):
        size, first = len(example.ids), len(block.ids)
        block.ids.extend(example.ids)
        block.labels.extend(example.labels)
        block.positions.extend(range(size))
        block.segments.extend([number] * size)
        if size and not strict:
            block.labels[first] = IGNORE
        if block.weights is not None:
            block.weights.extend([1.0] * size if example.weights is None else example.weights)
    rest = block_len - len(block.ids)
    if rest < 0:
        raise ValueError(f"examples of {len(block.ids)} tokens together do not fit a block of {block_len}")
    block.ids.extend([pad_id] * rest)
    block.labels.extend([IGNORE] * rest)
    block.positions.extend([0] * rest)
    block.segments.extend([0] * rest)
    if block.weights is not None:
        block.weights.extend([0.0] * rest)
    return block
