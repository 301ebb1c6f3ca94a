"""The logistic loss on a pair's margin: direct preference optimisation.

    L = - log sigmoid( beta * [ (log pi(y_w|x) - log ref(y_w|x)) - (log pi(y_l|x) - log ref(y_l|x)) ] )

Rafailov et al. 2023, "Direct Preference Optimization", eq. 7; with label smoothing e the conservative form of Mitchell
2023, (1 - e) L(m) + e L(-m). With policy = reference every term is log 2, whatever e is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from trainkit.config import PreferenceConfig


def loss(policy: torch.Tensor, reference: torch.Tensor | None, settings: PreferenceConfig) -> torch.Tensor:
    """[pairs], from summed log-probabilities [2, pairs]."""
    margin = margin_of(policy, reference, settings.pref_beta)
    smoothing = settings.dpo_label_smoothing
    return -(1 - smoothing) * F.logsigmoid(margin) - smoothing * F.logsigmoid(-margin)


def margin_of(policy: torch.Tensor, reference: torch.Tensor | None, beta: float) -> torch.Tensor:
    """beta times how much more the policy prefers the chosen answer than the reference does, [pairs]."""
    assert reference is not None, "this loss needs the reference's log-probabilities"
    gain = policy - reference
    return beta * (gain[0] - gain[1])
