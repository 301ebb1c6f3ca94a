"""Training stages by name: what each trains on, how its examples are batched, and its loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from trainkit.config import PreferenceConfig
from trainkit.data.collate import Batch, collate_pairs, collate_sequences
from trainkit.logprobs import TokenLogprobs
from trainkit.stages import dpo, pt, sft

# (log-probabilities, batch, reference log-probabilities [2, pairs] or None) -> (sum over the batch, metrics summed)
Loss = Callable[[TokenLogprobs, Batch, torch.Tensor | None], tuple[torch.Tensor, dict[str, torch.Tensor]]]


@dataclass(frozen=True, slots=True)
class Stage:
    """One way to train. ``make_loss`` builds the pure loss from the settings it reads."""

    collate: Callable[..., Batch]
    make_loss: Callable[[PreferenceConfig], Loss]
    needs_reference: bool = False


STAGES: dict[str, Stage] = {
    "pt": Stage(collate_sequences, lambda _: pt.loss),
    "sft": Stage(collate_sequences, lambda _: sft.loss),
    "dpo": Stage(collate_pairs, dpo.make_loss, needs_reference=True),
}

__all__ = ["STAGES", "Loss", "Stage"]
