"""Optimizers of one weight each, which update in the backward pass so that only one gradient lives at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn


class LayerWise(torch.optim.Optimizer):
    """Updates each weight as soon as its gradient is there, and drops the gradient (Lv et al. 2023, LOMO, section 3).

    The learning rate must be in the groups before the backward pass; ``step`` has nothing left to do. The norm of all
    gradients is never known, and every backward pass is a step: no accumulation, no trial passes but in ``paused``.
    """

    in_backward = True

    def __init__(self, of: Mapping[nn.Parameter, torch.optim.Optimizer]) -> None:
        super().__init__([group for one in of.values() for group in one.param_groups], {})
        self._of = dict(of)
        self._paused = False
        for one in of.values():
            self.state.update(one.state)
            one.state = self.state
        for parameter in of:
            parameter.register_post_accumulate_grad_hook(self._update)

    def _update(self, parameter: torch.Tensor) -> None:
        if not self._paused:
            self._of[parameter].step()  # type: ignore[index]
            parameter.grad = None

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Nothing: the backward pass did it."""

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Backward passes within leave gradients and weights as any other optimizer would: for trials before a run."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False
