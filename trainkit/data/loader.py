"""Which examples make up which step: a pure function of seed and step, so that a position is just a number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class StepPlan:
    """The order of a whole run. A step is ``accumulation`` micro-batches of ``batch_size`` examples.

    The last micro-batch of an epoch, and the last window of micro-batches, may be short; they are trained like the
    others. Epochs are shuffled as ``transformers.Trainer`` does (accelerate's seedable sampler: ``torch.randperm``
    under ``seed + epoch``), so the same seed gives the same order there and here.
    """

    num_examples: int
    batch_size: int
    accumulation: int
    num_epochs: float
    max_steps: int
    seed: int
    shuffle: bool

    @property
    def micro_per_epoch(self) -> int:
        return math.ceil(self.num_examples / self.batch_size)

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.micro_per_epoch / self.accumulation)

    @property
    def total_steps(self) -> int:
        return self.max_steps if self.max_steps > 0 else math.ceil(self.num_epochs * self.steps_per_epoch)

    def step(self, number: int) -> list[list[int]]:
        """The example indices of each micro-batch of step ``number`` (from 0)."""
        epoch, within = divmod(number, self.steps_per_epoch)
        order = _order(self.num_examples, self.seed + epoch) if self.shuffle else range(self.num_examples)
        first = within * self.accumulation
        last = min(first + self.accumulation, self.micro_per_epoch)
        return [list(order[i * self.batch_size : (i + 1) * self.batch_size]) for i in range(first, last)]

    def epoch_after(self, steps: int) -> float:
        """How many epochs ``steps`` steps are, counted in micro-batches as the Trainer counts them."""
        epochs, rest = divmod(steps, self.steps_per_epoch)
        return epochs + rest * self.accumulation / self.micro_per_epoch


@lru_cache(maxsize=2)
def _order(num_examples: int, seed: int) -> list[int]:
    import torch

    return torch.randperm(num_examples, generator=torch.Generator().manual_seed(seed)).tolist()
