"""Adam-mini: one second moment for a head or a neuron (Zhang et al. 2024, arXiv 2406.16793), by adam-mini."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from registry.errors import UsageError
from trainkit.config import OptimConfig
from trainkit.optimizers.groups import Named
from trainkit.optimizers.named import adam_settings


def build(settings: OptimConfig, model: nn.Module, trainable: Named) -> torch.optim.Optimizer:
    """``use_adam_mini``. Raises ``UsageError`` where the model's config does not tell its heads."""
    from adam_mini import Adam_mini

    config = _config_with_heads(model)
    heads, width = config.num_attention_heads, config.hidden_size
    head_numel = (getattr(config, "head_dim", None) or width // heads) * width
    optimizer = Adam_mini(
        [(_told(name, parameter, head_numel), parameter) for name, parameter in trainable],
        **adam_settings(settings),
        weight_decay=settings.weight_decay,
        dim=width,
        n_heads=heads,
        n_kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        verbose=False,
    )
    # It takes heads to be width / heads wide, and the GPUs of the machine to be the processes of the run.
    optimizer.head_numel = head_numel
    optimizer.world_size = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    return optimizer


def _told(name: str, parameter: nn.Parameter, head_numel: int) -> str:
    """The name that the package goes by. Vectors that are no biases are told as norms, and what has no whole heads
    (adapters of queries and keys) as rows: under their own names it would fail on their shapes."""
    by_head = any(part in name.lower() for part in ("q_proj", "k_proj", "wq", "wk", "query", "key"))
    if parameter.ndim == 1 and "bias" not in name:
        return "norm"
    if parameter.ndim == 2 and ("lora_" in name or (by_head and parameter.numel() % head_numel)):
        return "mlp.adapter"
    return name


def _config_with_heads(model: nn.Module) -> Any:
    for module in model.modules():
        config = getattr(module, "config", None)
        config = config.get_text_config() if config is not None and hasattr(config, "get_text_config") else config
        if hasattr(config, "num_attention_heads") and hasattr(config, "hidden_size"):
            return config
    raise UsageError(
        '"use_adam_mini: true" needs the number of attention heads, and the model\'s config has none',
        mend="Remove the key, or choose optim.",
    )
