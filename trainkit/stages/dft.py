"""Dynamic fine-tuning: each token of the answer counts by the probability that it already has.

    L = - sum_t sg[ p(x_t | x_<t) ] * log p(x_t | x_<t)        (sg: no gradient)

Wu et al. 2025, "On the Generalization of SFT: A Reinforcement Learning Perspective with Reward Rectification"
(arXiv 2508.05629), eq. 9: plain fine-tuning is a policy gradient whose reward is 1 / p; the factor takes that out.
"""

from __future__ import annotations

from collections.abc import Callable

import torch


def factor(logprobs: torch.Tensor, top_entropy: Callable[[], torch.Tensor]) -> torch.Tensor:
    """What each token counts, [n] from its log-probability [n]."""
    return logprobs.exp()
