"""NEFTune: uniform noise on the embeddings' output while training.

    e' = e + u * alpha / sqrt(L d),   u uniform in [-1, 1]

Jain et al. 2023, "NEFTune: Noisy Embeddings Improve Instruction Finetuning" (arXiv 2310.05914), algorithm 1; L is the
length in tokens and d the width. As in transformers' own hook L is the padded length of the row; where several sequences
share a row it is each sequence's own. The noise is drawn from torch's generator, whose state is part of a checkpoint.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from trainkit.head import decoder_and_head


def add_noise(model: nn.Module, alpha: float) -> None:
    """Have the embeddings carry noise while the model is in training. Hooks do it, so no weight and no file knows of it."""
    positions: list[torch.Tensor | None] = [None]
    decoder, _ = decoder_and_head(model)
    embeddings = decoder.get_input_embeddings()  # type: ignore[operator]

    def remember(module: nn.Module, arguments: Any, named: dict[str, Any]) -> None:
        packed = named.get("attention_mask") is None
        positions[0] = named.get("position_ids") if packed else None

    def disturb(module: nn.Module, arguments: Any, output: torch.Tensor) -> torch.Tensor:
        if not module.training:
            return output
        lengths = torch.full(output.shape[:2], output.shape[1], device=output.device)
        if positions[0] is not None:
            lengths = sequence_lengths(positions[0])
        size = alpha * (lengths * output.shape[2]).float().rsqrt()
        return output + torch.empty_like(output).uniform_(-1, 1) * size[:, :, None].to(output.dtype)

    decoder.register_forward_pre_hook(remember, with_kwargs=True)
    embeddings.register_forward_hook(disturb)


def sequence_lengths(position_ids: torch.Tensor) -> torch.Tensor:
    """Of each token [B, T] the length of its sequence; sequences begin where positions are 0, and with a row."""
    begins = position_ids == 0
    begins[:, 0] = True
    owner = begins.flatten().cumsum(0) - 1
    return torch.zeros_like(owner).index_add(0, owner, torch.ones_like(owner))[owner].view(position_ids.shape)
