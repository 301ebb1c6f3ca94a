"""Full training: every weight of the model."""

from __future__ import annotations

from torch import nn

from trainkit.config import MethodConfig


def attach(model: nn.Module, method: MethodConfig) -> nn.Module:
    """The model itself, with every parameter to be trained."""
    return model.requires_grad_(True)
