"""Binary classifier optimisation: each answer is judged by itself, against the running mean of all rewards.

    L = - log sigmoid(r_w - d) - log sigmoid(-(r_l - d)),   r = beta * (log pi(y|x) - log ref(y|x))

Jung et al. 2024, "Binary Classifier Optimization for Large Language Model Alignment", eq. 9, where d is the running mean
of the rewards of all micro-batches so far, each weighing the same: a batch statistic, so how a step is cut changes the
loss. With policy = reference and nothing seen before it is 2 log 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class RunningMean:
    """The mean of all values so far and how many they were: two scalars on the device that survive a stop."""

    mean: torch.Tensor
    count: torch.Tensor

    def update(self, value: torch.Tensor) -> torch.Tensor:
        """Take one more ``value`` in, unless it is no number; the mean with it."""
        real = value.isfinite()
        self.count += real.to(self.count)
        self.mean += torch.where(real, (value - self.mean) / self.count.clamp(min=1), 0.0)
        return self.mean.clone()


def loss(policy: torch.Tensor, reference: torch.Tensor, beta: float, baseline: torch.Tensor) -> torch.Tensor:
    """[pairs], from log-probabilities [2, pairs] and the ``baseline`` d (scalar)."""
    rewards = beta * (policy - reference) - baseline
    return -F.logsigmoid(rewards[0]) - F.logsigmoid(-rewards[1])
