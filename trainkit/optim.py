"""The optimizer: AdamW over two groups of parameters, with and without decay."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import nn

from trainkit.config import OptimConfig

# Biases and norms are not decayed, as in transformers' Trainer.
UNDECAYED = re.compile(r"bias|layernorm|rmsnorm|(^|\.|_)norm(\.|$)")


def build_optimizer(
    settings: OptimConfig, model: nn.Module, trainable: Sequence[tuple[str, nn.Parameter]]
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) over ``trainable``; the fused form, the quickest on CPU and GPU."""
    undecayed = undecayed_names(model)
    groups = [
        {"params": [p for name, p in trainable if name not in undecayed], "weight_decay": settings.weight_decay},
        {"params": [p for name, p in trainable if name in undecayed], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon,
        fused=True,
    )


def undecayed_names(model: nn.Module) -> set[str]:
    """Names of biases and of norms' weights, told by their name or by being a ``LayerNorm``'s."""
    in_norms = {
        f"{path}.{n}"
        for path, m in model.named_modules()
        if isinstance(m, nn.LayerNorm)
        for n, _ in m.named_parameters()
    }
    return in_norms | {name for name, _ in model.named_parameters() if UNDECAYED.search(name.lower())}
