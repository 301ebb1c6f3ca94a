"""The hinge loss on a pair's margin: nothing is learned from a pair that is won by 1 or more.

    L = max(0, 1 - beta * [ (log pi(y_w|x) - log ref(y_w|x)) - (log pi(y_l|x) - log ref(y_l|x)) ])

Zhao et al. 2023, "SLiC-HF", eq. 1, on the rewards of Rafailov et al. 2023. With policy = reference it is 1.
"""

from __future__ import annotations

import torch

from trainkit.config import PreferenceConfig
from trainkit.stages.losses.sigmoid import margin_of


def loss(policy: torch.Tensor, reference: torch.Tensor | None, settings: PreferenceConfig) -> torch.Tensor:
    """[pairs], from summed log-probabilities [2, pairs]."""
    return torch.relu(1 - margin_of(policy, reference, settings.pref_beta))
