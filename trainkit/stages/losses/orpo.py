"""Odds-ratio preference optimisation: fine-tuning on the chosen answer with a pull on the odds, and no reference.

    L = - log p_w - beta * log sigmoid( log [p_w / (1 - p_w)] - log [p_l / (1 - p_l)] )

Hong et al. 2024, "ORPO: Monolithic Preference Optimization without Reference Model", eq. 6 and 7, where log p is the mean
log-probability of an answer's tokens and ``pref_beta`` the paper's lambda.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from trainkit.config import PreferenceConfig


def loss(policy: torch.Tensor, reference: torch.Tensor | None, settings: PreferenceConfig) -> torch.Tensor:
    """[pairs], from mean log-probabilities of a token [2, pairs]."""
    return -policy[0] - settings.pref_beta * F.logsigmoid(log_odds_ratio(policy))


def log_odds_ratio(policy: torch.Tensor) -> torch.Tensor:
    """How much likelier, in log odds, the chosen answer is, [pairs]. log(1 - p) is taken as log(-expm1(log p)), which
    keeps its digits where p is near 1; p = 1 itself (a certain answer) is held off by the smallest step below it."""
    logs = policy.clamp(max=-torch.finfo(policy.dtype).eps)
    odds = logs - torch.log(-torch.expm1(logs))
    return odds[0] - odds[1]
