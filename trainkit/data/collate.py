"""Examples to padded tensors, with the counts that a loss will be divided by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any

import numpy as np
import torch

from registry.encode import IGNORE, Example, FeedbackExample, PreferenceExample
from registry.packed import join_block
from trainkit.data.batching import PAD_MULTIPLE


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch, B sequences of T tokens, padded on the right (prompts: on the left).

    ``input_ids``, ``attention_mask`` and ``labels`` are int64 [B, T]; labels are not shifted (``trainkit.logprobs``
    does that) and hold ``IGNORE`` where nothing is trained. Of preference pairs the first half of the rows is
    chosen, the second rejected; of feedback the first half is the rows themselves, the second their KL rows.
    ``weight`` is what the batch adds to the divisor of its step: trained tokens (each by its weight), or pairs, or
    rows of feedback. ``indices`` are the examples' numbers in the data set.

    A packed batch has ``position_ids`` (int64 [B, T], from 0 in each example) and no mask: that is how transformers
    is told to keep examples apart. ``weights`` (float32 [B, T]) are there where answers weigh differently;
    ``desirable`` (bool [B / 2]) in feedback.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor | None
    labels: torch.Tensor
    weight: float
    num_tokens: int
    indices: tuple[int, ...]
    position_ids: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    desirable: torch.Tensor | None = None
    joined: bool = False  # packed examples see each other, as in LLaMA-Factory's plain packing

    def __post_init__(self) -> None:
        if self.position_ids is not None and not self.joined and self.position_ids.device.type == "cpu":
            check_apart(self.position_ids, self.attention_mask)  # once, where the batch is made

    def to(self, device: torch.device) -> Batch:
        """The same batch on ``device``."""
        values = ((f.name, getattr(self, f.name)) for f in fields(self))
        moved: dict[str, Any] = {n: v.to(device, non_blocking=True) for n, v in values if isinstance(v, torch.Tensor)}
        return replace(self, **moved)


def collate_sequences(examples: Sequence[Example], indices: Sequence[int], pad_id: int, *, strict: bool) -> Batch:
    """A batch of single sequences. Its weight is that of the labels that have a token before them to be predicted
    from; ``strict`` counts a trained first token too, as LLaMA-Factory does in pt."""
    ids, mask, labels = _padded(examples, pad_id)
    weights = None
    if any(e.weights is not None for e in examples):
        own = [e.weights if e.weights is not None else [1.0] * len(e.ids) for e in examples]
        weights = _rows(own, ids.shape[1], 0.0, np.float32)
    weight = _weight(labels, weights, strict=strict)
    return Batch(ids, mask, labels, weight, int(mask.sum()), tuple(indices), weights=weights)


def collate_packed(
    blocks: Sequence[Sequence[Example]],
    indices: Sequence[Sequence[int]],
    pad_id: int,
    *,
    block_len: int,
    strict: bool = False,
    neat: bool = True,
) -> Batch:
    """A batch of blocks of ``block_len`` tokens each, examples after one another; ``indices`` are the examples' numbers
    block by block.

    Examples never see each other, and the first token of each is not trained (``strict`` trains it, as LLaMA-Factory
    0.9.5). Only ``strict`` without ``neat``, LLaMA-Factory's plain packing, has a mask of ones, padding too: there
    they do see each other. Raises ``ValueError`` where a block's examples do not fit.
    """
    joined = [join_block(examples, block_len, pad_id, strict=strict) for examples in blocks]
    ids = _rows([b.ids for b in joined], block_len, pad_id, np.int64)
    positions = _rows([b.positions for b in joined], block_len, 0, np.int64)
    labels = _rows([b.labels for b in joined], block_len, IGNORE, np.int64)
    weights = None
    if any(b.weights is not None for b in joined):
        own = [b.weights if b.weights is not None else [1.0] * block_len for b in joined]
        weights = _rows(own, block_len, 0.0, np.float32)
    mask = None
    joined_up = strict and not neat
    if joined_up:
        mask = torch.ones_like(ids)
    num_tokens = sum(len(example.ids) for block in blocks for example in block)
    weight = _weight(labels, weights, strict=strict)
    return Batch(
        ids, mask, labels, weight, num_tokens, tuple(chain.from_iterable(indices)), positions, weights, joined=joined_up
    )


def check_apart(position_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> None:
    """Raise ``ValueError`` where positions start again at a token that a mask [B, T] lets see what is before it.

    Such a mask wins over the positions: examples would see each other, and nothing else would tell.
    """
    if attention_mask is None:
        return
    restarts = (position_ids[:, 1:] == 0) & (attention_mask[:, 1:] != 0) & (attention_mask[:, :-1] != 0)
    if restarts.any():
        raise ValueError(
            "positions restart within a row whose attention mask is all ones: packed examples would see each other. "
            "Give packed batches no mask."
        )


def collate_pairs(examples: Sequence[PreferenceExample], indices: Sequence[int], pad_id: int, *, strict: bool) -> Batch:
    """A batch of preference pairs, all chosen and then all rejected. Its weight is the number of pairs."""
    ids, mask, labels = _padded([e.chosen for e in examples] + [e.rejected for e in examples], pad_id)
    return Batch(ids, mask, labels, len(examples), int(mask.sum()), tuple(indices))


def collate_feedback(
    examples: Sequence[FeedbackExample], indices: Sequence[int], pad_id: int, *, strict: bool
) -> Batch:
    """A batch of judged answers, then the same prompts with other rows' answers (the KL rows), in the same order.
    Its weight is the number of judged answers."""
    ids, mask, labels = _padded([e.own for e in examples] + [e.kl for e in examples], pad_id)
    desirable = torch.tensor([e.desirable for e in examples], dtype=torch.bool)
    return Batch(ids, mask, labels, len(examples), int(mask.sum()), tuple(indices), desirable=desirable)


def collate_prompts(prompts: Sequence[Sequence[int]], indices: Sequence[int], pad_id: int) -> Batch:
    """A batch of prompts to go on from, so padded on the left and to no more than the longest; nothing is trained."""
    longest = max(map(len, prompts))
    ids = _rows(prompts, longest, pad_id, np.int64, left=True)
    mask = _rows([[1] * len(p) for p in prompts], longest, 0, np.int64, left=True)
    return Batch(ids, mask, torch.full_like(ids, IGNORE), 0, int(mask.sum()), tuple(indices))


def _weight(labels: torch.Tensor, weights: torch.Tensor | None, *, strict: bool) -> float:
    """How much the labels weigh together: their number, where they have no weights."""
    trained = labels != IGNORE
    if not strict:
        trained[:, 0] = False  # nothing is before it
    return int(trained.sum()) if weights is None else float(weights[trained].sum(dtype=torch.float64))


def _padded(examples: Sequence[Example], pad_id: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    longest = max(len(e.ids) for e in examples)
    length = -(-longest // PAD_MULTIPLE) * PAD_MULTIPLE
    ids = _rows([e.ids for e in examples], length, pad_id, np.int64)
    mask = _rows([[1] * len(e.ids) for e in examples], length, 0, np.int64)
    return ids, mask, _rows([e.labels for e in examples], length, IGNORE, np.int64)


def _rows(rows: Iterable[Sequence[float]], length: int, fill: float, kind: Any, *, left: bool = False) -> torch.Tensor:
    """``rows`` as a tensor [B, length], each filled up with ``fill``."""
    rows = list(rows)
    table = np.full((len(rows), length), fill, dtype=kind)
    for line, row in zip(table, rows, strict=True):
        line[length - len(row) if left else 0 : length if left else len(row)] = row
    return torch.from_numpy(table)
