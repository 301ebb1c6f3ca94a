"""Freeze training: some layers (or modules of them) of the base are trained, everything else stays as it was."""

from __future__ import annotations

from torch import nn

from trainkit.config import MethodConfig
from trainkit.layers import trained_names


def attach(model: nn.Module, method: MethodConfig) -> nn.Module:
    """The model itself, with the chosen parameters to be trained. Raises ``UsageError`` as ``trained_names`` does."""
    # a tied head is one tensor with two names, and either of them may be asked for
    named = dict(model.named_parameters(remove_duplicate=False))
    chosen = {id(named[name]) for name in trained_names(named, method, num_layers_of(model.config))}
    for parameter in named.values():
        parameter.requires_grad_(id(parameter) in chosen)
    return model


def num_layers_of(config: object) -> int | None:
    """How many layers the text part of a model has by its config; None where that does not say."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return getattr(text, "num_hidden_layers", None)
