"""APOLLO: learning rates from moments in a random low-rank space (Zhu et al. 2024, arXiv 2412.05270), by apollo-torch."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from trainkit.config import OptimConfig
from trainkit.optimizers.groups import Named
from trainkit.optimizers.named import adam_settings, typed_args
from trainkit.optimizers.targets import is_named_target, is_target, low_rank


def build(settings: OptimConfig, model: nn.Module, trainable: Named) -> torch.optim.Optimizer:
    """``use_apollo``: AdamW with ``apollo_target`` projected."""
    from apollo_torch import APOLLOAdamW

    projection = {
        "rank": settings.apollo_rank,
        "proj": settings.apollo_proj,
        "proj_type": settings.apollo_proj_type,
        "update_proj_gap": settings.apollo_update_interval,
        "scale": settings.apollo_scale,
        "scale_type": settings.apollo_scale_type,
    }
    return low_rank(
        partial(APOLLOAdamW, **adam_settings(settings), scale_front=settings.apollo_scale_front), model, trainable,
        partial(is_target, targets=settings.apollo_target), projection,
        weight_decay=settings.weight_decay, layerwise=settings.apollo_layerwise, asked="apollo_target",
    )  # fmt: skip


def build_named(settings: OptimConfig, model: nn.Module, trainable: Named) -> torch.optim.Optimizer:
    """``optim: apollo_*``: ``optim_target_modules`` projected, with transformers' defaults; betas and epsilon reach the
    projected weights, the others have the library's."""
    from apollo_torch import APOLLOAdamW

    projection = {"rank": 128, "proj": "random", "scale_type": "channel", "update_proj_gap": 200, "scale": 1.0}
    adam = {"betas": (settings.adam_beta1, settings.adam_beta2), "eps": settings.adam_epsilon}
    return low_rank(
        partial(APOLLOAdamW, lr=settings.learning_rate), model, trainable,
        partial(is_named_target, targets=settings.optim_target_modules or ()),
        {**projection, "proj_type": "std", **adam, **typed_args(settings)},
        weight_decay=settings.weight_decay, layerwise=settings.optim.endswith("layerwise"), asked="optim_target_modules",
    )  # fmt: skip
