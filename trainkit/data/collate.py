"""Examples to padded tensors, with the counts that a loss will be divided by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from registry.encode import IGNORE, Example, PreferenceExample

PAD_MULTIPLE = 8  # as LLaMA-Factory's collator; matrix units like it


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch, B sequences of T tokens, padded on the right.

    ``input_ids``, ``attention_mask`` and ``labels`` are int64 [B, T]; labels are not shifted (``trainkit.logprobs``
    does that) and hold ``IGNORE`` where nothing is trained. Of preference pairs the first half of the rows is
    chosen, the second rejected. ``weight`` is what the batch adds to the divisor of its step: trained tokens, or
    pairs. ``indices`` are the examples' numbers in the data set.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    weight: int
    num_tokens: int
    indices: tuple[int, ...]

    def to(self, device: torch.device) -> Batch:
        """The same batch on ``device``."""
        tensors = (t.to(device, non_blocking=True) for t in (self.input_ids, self.attention_mask, self.labels))
        return Batch(*tensors, self.weight, self.num_tokens, self.indices)


def collate_sequences(examples: Sequence[Example], indices: Sequence[int], pad_id: int, *, strict: bool) -> Batch:
    """A batch of single sequences. Its weight is the number of labels that have a token before them to be
    predicted from; ``strict`` counts a trained first token too, as LLaMA-Factory does in pt."""
    ids, mask, labels = _padded(examples, pad_id)
    counted = labels if strict else labels[:, 1:]
    return Batch(ids, mask, labels, int((counted != IGNORE).sum()), int(mask.sum()), tuple(indices))


def collate_pairs(examples: Sequence[PreferenceExample], indices: Sequence[int], pad_id: int, *, strict: bool) -> Batch:
    """A batch of preference pairs, all chosen and then all rejected. Its weight is the number of pairs."""
    ids, mask, labels = _padded([e.chosen for e in examples] + [e.rejected for e in examples], pad_id)
    return Batch(ids, mask, labels, len(examples), int(mask.sum()), tuple(indices))


def _padded(examples: Sequence[Example], pad_id: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    longest = max(len(e.ids) for e in examples)
    length = -(-longest // PAD_MULTIPLE) * PAD_MULTIPLE
    ids = torch.full((len(examples), length), pad_id, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, IGNORE)
    for row, example in enumerate(examples):
        size = len(example.ids)
        ids[row, :size] = torch.tensor(example.ids)
        mask[row, :size] = 1
        labels[row, :size] = torch.tensor(example.labels)
    return ids, mask, labels
