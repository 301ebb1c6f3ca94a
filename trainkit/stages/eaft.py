"""Entropy-adaptive fine-tuning: tokens that the model is sure about count less, whether it is right or not.

    L = - sum_t sg[ (H_20 / 3)^alpha ] * log p(x_t | x_<t)        (sg: no gradient)

"Entropy-Adaptive Fine-Tuning" (2026). H_20 is the entropy in nats of the softmax over the 20 largest logits; at most
ln 20, which is nearly 3. The divisor is that of sft.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

ABOUT_THE_LARGEST = 3.0  # ln 20 = 2.996


def make_factor(alpha: float) -> Callable[[torch.Tensor, Callable[[], torch.Tensor]], torch.Tensor]:
    """What each token counts, from its distribution's entropy."""

    def factor(logprobs: torch.Tensor, top_entropy: Callable[[], torch.Tensor]) -> torch.Tensor:
        return (top_entropy() / ABOUT_THE_LARGEST).pow(alpha)

    return factor
