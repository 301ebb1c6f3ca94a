"""Direct preference optimisation: the better answer gains on the worse one, measured against a reference.

    L = - log sigmoid( beta * [ (log pi(y_w|x) - log ref(y_w|x)) - (log pi(y_l|x) - log ref(y_l|x)) ] )

Rafailov et al. 2023, "Direct Preference Optimization", eq. 7; with label smoothing e the conservative form of Mitchell
2023, (1 - e) L(x) + e L(-x). With policy = reference every term is log 2. The divisor is the number of pairs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from trainkit.config import PreferenceConfig
from trainkit.data.collate import Batch
from trainkit.logprobs import TokenLogprobs


def make_loss(settings: PreferenceConfig):  # type: ignore[no-untyped-def]
    """The loss with its beta and label smoothing."""
    beta, smoothing = settings.pref_beta, settings.dpo_label_smoothing

    def loss(
        logprobs: TokenLogprobs, batch: Batch, reference: torch.Tensor | None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        assert reference is not None, "dpo needs the reference's log-probabilities"
        return preference_loss(logprobs.by_row().reshape(2, -1), reference, beta, smoothing)

    return loss


def preference_loss(
    policy: torch.Tensor, reference: torch.Tensor, beta: float, smoothing: float = 0.0
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss summed over pairs. ``policy`` and ``reference`` [2, pairs]: log-probabilities of chosen, then rejected."""
    rewards = beta * (policy - reference)
    margin = rewards[0] - rewards[1]
    losses = -(1 - smoothing) * F.logsigmoid(margin) - smoothing * F.logsigmoid(-margin)
    with torch.no_grad():
        metrics = {
            "rewards/chosen": rewards[0].sum(),
            "rewards/rejected": rewards[1].sum(),
            "rewards/accuracies": (margin > 0).float().sum(),
            "rewards/margins": margin.sum(),
            "logps/chosen": policy[0].sum(),
            "logps/rejected": policy[1].sum(),
        }
    return losses.sum(), metrics
