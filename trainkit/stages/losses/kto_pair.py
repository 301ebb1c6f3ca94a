"""Kahneman-Tversky optimisation on pairs: each answer is held against how far the other ones have drifted.

    L = 1/2 [ 1 - sigmoid(beta * (r_w - z_l)) ] + 1/2 [ 1 - sigmoid(beta * (z_w - r_l)) ]
    r = log pi(y|x) - log ref(y|x),   z_w = max(0, mean of r_w),   z_l = max(0, mean of r_l) over the micro-batch

Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect Theoretic Optimization", section 4, with each half's mean as the
other's estimate of the divergence. The means are statistics of the micro-batch, so how a step is cut changes the loss.
The estimate carries its gradient, as in the paper's first code and in TRL up to 0.9. With policy = reference: 1/2.
"""

from __future__ import annotations

import torch

from trainkit.config import PreferenceConfig


def loss(policy: torch.Tensor, reference: torch.Tensor | None, settings: PreferenceConfig) -> torch.Tensor:
    """[pairs], from summed log-probabilities [2, pairs]."""
    assert reference is not None, "this loss needs the reference's log-probabilities"
    chosen, rejected = policy - reference
    drift_chosen, drift_rejected = chosen.mean().clamp(min=0), rejected.mean().clamp(min=0)
    beta = settings.pref_beta
    liked = 1 - torch.sigmoid(beta * (chosen - drift_rejected))
    disliked = 1 - torch.sigmoid(beta * (drift_chosen - rejected))
    return (liked + disliked) / 2
