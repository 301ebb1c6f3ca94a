"""Identity preference optimisation: the gap between the answers is drawn to a fixed size, not to infinity.

    L = ( [ (log pi(y_w|x) - log ref(y_w|x)) - (log pi(y_l|x) - log ref(y_l|x)) ] - 1 / (2 beta) )^2

Azar et al. 2023, "A General Theoretical Paradigm to Understand Learning from Human Preferences", eq. 17, on
log-probabilities that are means over the answer's tokens. With policy = reference it is 1 / (2 beta)^2.
"""

from __future__ import annotations

import torch

from trainkit.config import PreferenceConfig
from trainkit.stages.losses.sigmoid import margin_of


def loss(policy: torch.Tensor, reference: torch.Tensor | None, settings: PreferenceConfig) -> torch.Tensor:
    """[pairs], from mean log-probabilities of a token [2, pairs]."""
    return (margin_of(policy, reference, 1.0) - 1 / (2 * settings.pref_beta)) ** 2
