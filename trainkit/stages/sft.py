"""Supervised fine-tuning: only the answer's tokens are trained, given everything before them.

    L = - sum_{t in answer} log p(x_t | x_<t)

Ouyang et al. 2022, "Training language models to follow instructions with human feedback", section 3.5. The divisor is
the number of trained tokens of the whole optimizer step, over all micro-batches (``Batch.weight``). Where answers have
weights, each token's term and its part of the divisor are multiplied by the weight of its answer.
"""

from __future__ import annotations

import torch

from trainkit.data.collate import Batch
from trainkit.logprobs import TokenLogprobs


def loss(
    logprobs: TokenLogprobs, batch: Batch, reference: torch.Tensor | None
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The negative log-likelihood of the batch's trained tokens, each times its weight, summed."""
    values = logprobs.values if logprobs.weights is None else logprobs.values * logprobs.weights
    return -values.sum(), {}
