"""The examples that ``benchmarks/gpu.py`` trains on: random ids, lengths as in real chats, the same for every side."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Sequence
from typing import Any

from registry.encode import Example
from registry.packing import pack_lengths
from trainkit.data.collate import Batch, collate_packed, collate_sequences
from trainkit.forecast.flops import Work, context_of, flops_per_step

MEDIAN, SPREAD = 1 / 6, 0.9  # of the longest length; of the logarithm


def draw(seed: int, vocab_size: int, length: int, tokens: int) -> list[Example]:
    """About ``tokens`` tokens of examples of up to ``length``, the first third of each a prompt that is not trained."""
    rng, found, count = random.Random(seed), [], 0
    while count < tokens:
        size = max(16, min(length, round(rng.lognormvariate(math.log(length * MEDIAN), SPREAD))))
        ids = [rng.randrange(5, vocab_size) for _ in range(size)]
        found.append(Example(array("i", ids), array("i", [-100] * (size // 3) + ids[size // 3 :])))
        count += size
    return found


def micro_batches(
    examples: Sequence[Example], length: int, rows: int, *, packed: bool, count: int | None = None
) -> list[Batch]:
    """The micro-batches of one step: of at most ``rows`` blocks of ``length`` tokens, or of as many examples a row each.
    ``count`` is how many there are to be (None: as few as it takes)."""
    units: list[list[int]] = [[n] for n in range(len(examples))]
    if packed:
        units = pack_lengths([len(e.ids) for e in examples], length)
    count = count or math.ceil(len(units) / rows)
    found = []
    for number in range(count):
        some = units[number * len(units) // count : (number + 1) * len(units) // count]
        if packed:
            found.append(collate_packed([[examples[n] for n in unit] for unit in some], some, 0, block_len=length))
        else:
            chosen = [n for unit in some for n in unit]
            found.append(collate_sequences([examples[n] for n in chosen], chosen, 0, strict=False))
    return found


def inputs_of(batch: Batch, *, flat: bool) -> dict[str, Any]:
    """A batch as a model of transformers takes it; ``flat``: packed rows laid end to end, as flash attention wants them.

    The first label of every example is taken away: it is not predicted, and transformers would count it.
    """
    labels = batch.labels.clone()
    if batch.position_ids is None:
        labels[:, 0] = -100
        return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": labels}
    labels[batch.position_ids == 0] = -100
    found = {"input_ids": batch.input_ids, "labels": labels, "position_ids": batch.position_ids}
    return {key: value.reshape(1, -1) for key, value in found.items()} if flat else found


def flops_of(examples: Sequence[Example], work: Work) -> float:
    """The FLOPs that a model needs for them, forward and backward, padding and recomputation left out."""
    lengths = [len(e.ids) for e in examples]
    labelled = sum(sum(label != -100 for label in e.labels) for e in examples)
    return flops_per_step(work, num_tokens=sum(lengths), num_labelled=labelled, context=context_of(lengths))


def num_tokens(examples: Sequence[Example]) -> int:
    """All tokens of the examples."""
    return sum(len(e.ids) for e in examples)
