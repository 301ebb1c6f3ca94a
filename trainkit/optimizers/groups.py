"""Which weights are decayed and at which share of the learning rate: the groups that an optimizer is built over."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

Named = Sequence[tuple[str, nn.Parameter]]

# Biases and norms are not decayed, as in transformers' Trainer.
UNDECAYED = re.compile(r"bias|layernorm|rmsnorm|(^|\.|_)norm(\.|$)")


def undecayed_names(model: nn.Module) -> set[str]:
    """Names of biases and of norms' weights, told by their name or by being a ``LayerNorm``'s."""
    in_norms = {
        f"{path}.{n}"
        for path, m in model.named_modules()
        if isinstance(m, nn.LayerNorm)
        for n, _ in m.named_parameters()
    }
    return in_norms | {name for name, _ in model.named_parameters() if UNDECAYED.search(name.lower())}


def decay_groups(
    model: nn.Module, trainable: Named, weight_decay: float, lora_plus: tuple[float, float] | None = None
) -> list[dict[str, Any]]:
    """Groups of ``trainable`` by decay and, for LoRA+, by ``lr_scale``, the share of the learning rate that a group gets.

    ``lora_plus`` holds the shares of the matrices B (and of vectors) and of the embeddings' adapters; A has 1. Names
    of ``trainable`` are those of ``model``.
    """
    undecayed = undecayed_names(model)
    groups: dict[tuple[bool, float], dict[str, Any]] = {}
    for decayed in (True, False):  # the first group is the decayed one
        for name, parameter in trainable:
            if (name not in undecayed) != decayed:
                continue
            scale = _lora_plus_scale(name, parameter, lora_plus) if lora_plus else 1.0
            group = groups.setdefault(
                (decayed, scale), {"params": [], "weight_decay": weight_decay if decayed else 0.0}
            )
            group["params"].append(parameter)
            if lora_plus:
                group["lr_scale"] = scale
    return list(groups.values())


def _lora_plus_scale(name: str, parameter: nn.Parameter, lora_plus: tuple[float, float]) -> float:
    """Hayou et al. 2024, LoRA+: B learns faster than A; vectors go with B, as in LLaMA-Factory."""
    ratio, embedding = lora_plus
    if "lora_embedding_B" in name:
        return embedding
    return ratio if "lora_B" in name or parameter.ndim == 1 else 1.0


def apply_learning_rate(groups: Iterable[dict[str, Any]], lr: float) -> None:
    """Set each group's learning rate: ``lr`` times its ``lr_scale``."""
    for group in groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
