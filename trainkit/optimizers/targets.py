"""Which matrices a low-rank optimizer projects, and the groups that follow."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from registry.errors import UsageError
from trainkit.optimizers.groups import Named, decay_groups
from trainkit.optimizers.layerwise import LayerWise

HEADS = ("lm_head", "output", "score", "v_head")  # never among "all": the layer that speaks is no layer of the model


def is_target(module: str, targets: Sequence[str]) -> bool:
    """Whether the linear layer named ``module`` is meant: a part of its name, or ``all`` but the head."""
    if tuple(targets) == ("all",):
        return module.rpartition(".")[2] not in HEADS
    return any(target in module for target in targets)


def is_named_target(module: str, targets: Sequence[str]) -> bool:
    """The same as transformers reads ``optim_target_modules``: ``all-linear``, one pattern, or parts and patterns."""
    if len(targets) == 1 and targets[0].replace("_", "-") == "all-linear":
        return True
    if len(targets) == 1 and re.fullmatch(targets[0], module):
        return True
    return any(target in module or re.fullmatch(target, module) for target in targets)


def low_rank(
    make: Callable[[list[dict[str, Any]]], torch.optim.Optimizer],
    model: nn.Module,
    trainable: Named,
    chosen: Callable[[str], bool],
    projection: Mapping[str, Any],
    *,
    weight_decay: float,
    layerwise: bool,
    asked: str,
) -> torch.optim.Optimizer:
    """The optimizer of ``make`` with the trained matrices of linear layers that ``chosen`` takes by name projected.

    ``projection`` goes into their group. Raises ``UsageError`` where none is taken; ``asked`` names the key then.
    """
    linear = {name: module.weight for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    trained = {id(parameter) for _, parameter in trainable}
    projected = {id(w) for name, w in linear.items() if chosen(name) and id(w) in trained and w.ndim > 1}
    if not projected:
        known = sorted({name.rpartition(".")[2] for name, w in linear.items() if id(w) in trained})
        raise UsageError(
            f'"{asked}" matches no linear layer that is trained',
            mend=f"There is: {', '.join(known)}." if known else "The model has no linear layer that is trained.",
        )
    groups = decay_groups(model, [(n, p) for n, p in trainable if id(p) not in projected], weight_decay)
    targets = [p for _, p in trainable if id(p) in projected]
    groups.append({"params": targets, "weight_decay": weight_decay, **projection})
    if not layerwise:
        return make(groups)
    alone = {p: make([{**group, "params": [p]}]) for group in groups for p in group["params"]}
    return LayerWise(alone)
