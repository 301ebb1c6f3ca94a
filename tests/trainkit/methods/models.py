"""Loaded models for the tests of methods: as a run loads them, nudged as if they had been trained, and asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainkit.config import load_config
from trainkit.model import load_trainable, prepare_trainable

CPU = torch.device("cpu")
IDS = torch.tensor([[5, 60, 7, 80, 9, 100, 11, 120]])


def load(keys: dict[str, Any], *, resumed: Path | None = None) -> nn.Module:
    """The model of a run's config, in evaluation mode."""
    config = load_config(keys)
    torch.manual_seed(3)
    return load_trainable(config.model, config.method, bf16=config.loop.bf16, device=CPU, resumed=resumed).eval()


def nudge(model: nn.Module, by: float = 0.05) -> nn.Module:
    """Every trained weight moved a little, always the same way."""
    rng = torch.Generator().manual_seed(7)
    for _, parameter in prepare_trainable(model):
        parameter.data += (by * torch.randn(parameter.shape, generator=rng)).to(parameter.dtype)
    return model


@torch.no_grad()
def logits(model: nn.Module) -> torch.Tensor:
    return model(input_ids=IDS).logits.float()


def trained_names(model: nn.Module) -> list[str]:
    return [name for name, _ in prepare_trainable(model)]


def save(model: Any, folder: Path) -> str:
    """The adapter (or model) in a folder, in peft's (or transformers') layout."""
    model.save_pretrained(folder, **({"save_embedding_layers": False} if hasattr(model, "peft_config") else {}))
    return str(folder)
