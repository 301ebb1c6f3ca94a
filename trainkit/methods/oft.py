"""Orthogonal finetuning (Qiu et al. 2023, arXiv 2306.07280; Qiu et al. 2025, arXiv 2506.19847): each target's input is rotated in blocks before its weight.

A block of size b is the Cayley transform of a skew-symmetric matrix, b (b - 1) / 2 numbers; peft sums its Neumann series.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from trainkit.config import MethodConfig
from trainkit.methods.targets import adapter_targets, whole_modules, with_tied

log = logging.getLogger("tunekit")


def attach(model: nn.Module, method: MethodConfig) -> nn.Module:
    """The base, frozen, with a new adapter; it computes what the base computes. Raises ``UsageError`` for targets that
    are not there."""
    from peft import OFTConfig, TaskType, get_peft_model

    config = OFTConfig(
        task_type=TaskType.CAUSAL_LM,
        r=method.oft_rank,
        oft_block_size=method.oft_block_size,
        module_dropout=method.module_dropout,
        target_modules=adapter_targets(model, method.oft_target, "oft_target"),
        modules_to_save=whole_modules(model, with_tied(model, method.additional_target)),
    )
    adapted = get_peft_model(model, config)
    let_blocks_drop(adapted)
    _tell_adjusted(adapted, method)
    return adapted


def let_blocks_drop(adapted: nn.Module) -> None:
    """Have ``module_dropout`` switch whole blocks off while training, in place: each becomes the identity.

    peft 0.21 makes the layers for it and calls them nowhere; where a later one does, nothing is done here.
    """
    from peft.tuners.oft.layer import Linear, MultiplicativeDropoutLayer

    if "oft_dropout" in Linear.forward.__code__.co_names:
        return
    layer: Any
    for layer in adapted.modules():
        drop = getattr(layer, "oft_dropout", {})
        if "default" in drop and isinstance(drop["default"], MultiplicativeDropoutLayer):
            rotation = layer.oft_R["default"]
            rotation._cayley_batch = _dropping(rotation._cayley_batch, drop["default"])


def _dropping(blocks_of: Callable[..., torch.Tensor], drop: nn.Module) -> Callable[..., torch.Tensor]:
    return lambda *arguments, **options: drop(blocks_of(*arguments, **options))


def _tell_adjusted(adapted: nn.Module, method: MethodConfig) -> None:
    asked = method.oft_rank or method.oft_block_size
    what = "oft_rank" if method.oft_rank else "oft_block_size"
    told = {}
    module: Any
    for module in adapted.modules():
        if hasattr(module, "oft_block_size") and "default" in getattr(module, "oft_R", {}):
            taken = (module.r if method.oft_rank else module.oft_block_size)["default"]
            if taken != asked:
                told[module.in_features] = taken
    for width, taken in sorted(told.items()):
        log.warning("%s %d does not divide layers with %d inputs: %d is taken there", what, asked, width, taken)
