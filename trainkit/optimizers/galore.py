"""GaLore: moments of gradients projected to a low rank (Zhao et al. 2024, arXiv 2403.03507), by galore-torch."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from registry.errors import UsageError
from trainkit.config import OptimConfig
from trainkit.optimizers.groups import Named
from trainkit.optimizers.named import adam_settings, typed_args
from trainkit.optimizers.names import BNB_ADAMW_8BIT
from trainkit.optimizers.targets import is_named_target, is_target, low_rank


def build(settings: OptimConfig, model: nn.Module, trainable: Named) -> torch.optim.Optimizer:
    """``use_galore``: ``galore_target`` projected, AdamW, 8-bit AdamW or Adafactor after ``optim``."""
    eight_bits = settings.optim in BNB_ADAMW_8BIT
    kind = "adafactor" if settings.optim == "adafactor" else "adamw_8bit" if eight_bits else "adamw"
    options = {"lr": settings.learning_rate} if kind == "adafactor" else adam_settings(settings)
    projection = {
        "rank": settings.galore_rank,
        "update_proj_gap": settings.galore_update_interval,
        "scale": settings.galore_scale,
        "proj_type": settings.galore_proj_type,
    }
    return low_rank(
        _maker(kind, options, trainable), model, trainable,
        partial(is_target, targets=settings.galore_target), projection,
        weight_decay=settings.weight_decay, layerwise=settings.galore_layerwise, asked="galore_target",
    )  # fmt: skip


def build_named(settings: OptimConfig, model: nn.Module, trainable: Named) -> torch.optim.Optimizer:
    """``optim: galore_*``: ``optim_target_modules`` projected, with transformers' defaults and the library's betas."""
    said = typed_args(settings)
    projection = {"rank": 128, "update_proj_gap": 200, "scale": 0.25, "proj_type": "std", **said}
    kind = settings.optim.removeprefix("galore_").removesuffix("_layerwise")
    return low_rank(
        _maker(kind, {"lr": settings.learning_rate}, trainable), model, trainable,
        partial(is_named_target, targets=settings.optim_target_modules or ()), projection,
        weight_decay=settings.weight_decay, layerwise=settings.optim.endswith("layerwise"), asked="optim_target_modules",
    )  # fmt: skip


def _maker(kind: str, options: dict[str, Any], trainable: Named) -> partial[torch.optim.Optimizer]:
    from galore_torch import GaLoreAdafactor, GaLoreAdamW, GaLoreAdamW8bit

    if kind == "adafactor":
        return partial(GaLoreAdafactor, **options, scale_parameter=False, relative_step=False)
    if kind == "adamw_8bit":
        if any(parameter.device.type != "cuda" for _, parameter in trainable):
            raise UsageError(
                "GaLore with 8-bit AdamW runs on NVIDIA GPUs only: galore-torch waits for the GPU after each update",
                mend="Write optim: adamw_torch, or galore_adamw where optim names it.",
            )
        return partial(GaLoreAdamW8bit, **options)
    return partial(GaLoreAdamW, **options, no_deprecation_warning=True)
