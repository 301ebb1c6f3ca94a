"""Simple preference optimisation: the mean log-probability is the reward, and there is a margin to be won by.

    L = - log sigmoid( beta * (log p_w - log p_l) - gamma )

Meng et al. 2024, "SimPO: Simple Preference Optimization with a Reference-Free Reward", eq. 6, where log p is the mean
log-probability of an answer's tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from trainkit.config import PreferenceConfig


def loss(policy: torch.Tensor, reference: torch.Tensor | None, settings: PreferenceConfig) -> torch.Tensor:
    """[pairs], from mean log-probabilities of a token [2, pairs]."""
    return -F.logsigmoid(settings.pref_beta * (policy[0] - policy[1]) - settings.simpo_gamma)
