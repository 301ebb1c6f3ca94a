"""Which of an objective's tensors are the model's to save, and copies of them on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

MODEL = "model."


def trained(objective: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The parameters that are trained, by their names in the objective."""
    return [(name, p) for name, p in objective.named_parameters() if p.requires_grad]


def saved_names(objective: nn.Module) -> list[str]:
    """The names in the objective's state dict that belong into a saved model: all of it, or with an adapter what the
    adapter has put there and what is trained beside it. The frozen base need not be gathered for that."""
    names = list(objective.state_dict(keep_vars=True))
    adapted = getattr(objective.model, "base_model", None)
    if not hasattr(objective.model, "peft_config"):
        return names
    prefix = getattr(adapted, "prefix", "lora_")
    marks = tuple(m for m in (prefix, "modules_to_save.", "trainable_tokens_", "v_head.") if m)
    learns = {name for name, _ in trained(objective)}
    return [name for name in names if name in learns or any(mark in name for mark in marks)]


def copy_weights(
    objective: nn.Module, whole: Callable[[str, torch.Tensor], torch.Tensor], *, keep: bool
) -> dict[str, torch.Tensor] | None:
    """Copies on the CPU of what is to be saved, named as in the model's own state dict (``v_head.`` as in the
    objective's). ``whole(name, tensor)`` puts a tensor together, with every rank's help; only a rank that is to
    ``keep`` the copies holds more than one at a time."""
    tensors = objective.state_dict(keep_vars=True)
    found: dict[str, torch.Tensor] = {}
    seen: dict[int, torch.Tensor] = {}  # tied weights stay one tensor
    for name in saved_names(objective):
        tensor = tensors[name]
        if id(tensor) not in seen:
            part = whole(name, tensor).detach()
            seen[id(tensor)] = part.to("cpu", copy=True) if keep else tensor
        if keep:
            found[name.removeprefix(MODEL)] = seen[id(tensor)]
    return found if keep else None
