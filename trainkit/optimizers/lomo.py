"""LOMO and AdaLomo: updates within the backward pass, no gradient kept (Lv et al. 2023), by lomo-optim."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from registry.errors import UsageError
from trainkit.config import OptimConfig
from trainkit.optimizers.groups import Named


def build(settings: OptimConfig, model: nn.Module, trainable: Named) -> torch.optim.Optimizer:
    """``optim: lomo`` or ``adalomo``. Raises ``UsageError`` for AdaLomo off the GPU, where its package keeps its state."""
    if settings.optim == "adalomo" and any(parameter.device.type != "cuda" for _, parameter in trainable):
        raise UsageError('"optim: adalomo" runs on NVIDIA GPUs only', mend="Write optim: lomo, or adafactor.")
    return InBackward(model, trainable, settings.learning_rate, adaptive=settings.optim == "adalomo")


class InBackward(torch.optim.Optimizer):
    """The package's optimizer behind the interface of torch's: its hooks update in ``backward``, ``step`` the last weight.

    As with ``LayerWise`` the learning rate must be in the group before the backward pass.
    """

    in_backward = True

    def __init__(self, model: nn.Module, trainable: Named, lr: float, *, adaptive: bool) -> None:
        from lomo_optim import AdaLomo, Lomo

        super().__init__([parameter for _, parameter in trainable], {"lr": lr})
        self._names = {parameter: name for name, parameter in model.named_parameters()}
        self._under_way = False
        for _, parameter in trainable:
            parameter.register_hook(self._begin)  # before the package's own hooks, which read the rate
        # The loss comes unscaled here, so AdaLomo's scale, which it divides gradients by, is 1.
        self.inner: Any = AdaLomo(model, lr=lr, loss_scale=1) if adaptive else Lomo(model, lr=lr)

    def _begin(self, gradient: torch.Tensor) -> None:
        self.inner.lr = self.param_groups[0]["lr"]
        if not self._under_way and not self.inner.gather_norm and hasattr(self.inner, "step_num"):
            self.inner.step_num += 1
        self._under_way = True

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the weight whose gradient came last."""
        self.inner.grad_func(None)
        self._under_way = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Backward passes within change no weight: for trials before a run. Gradients are dropped all the same."""
        self.inner.gather_norm = True  # the package's pass that only measures
        try:
            yield
        finally:
            self.inner.gather_norm, self.inner.grad_norms = False, []
            self._under_way = False

    def adaptive_state(self, parameter: nn.Parameter) -> dict[str, torch.Tensor]:
        """AdaLomo's second moments of one weight, or its rows and columns; LOMO has none. The tensors themselves."""
        kinds = ("exp_avg_sq", "exp_avg_sq_row", "exp_avg_sq_col")
        kept = {kind: getattr(self.inner, kind, {}).get(self._names[parameter]) for kind in kinds}
        return {kind: tensor for kind, tensor in kept.items() if tensor is not None}
