"""The model with its stage's forward pass and loss, in one module: what every backend wraps, gathers and shards."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainkit.data.collate import Batch
from trainkit.layout import VALUE_HEAD

# (what the forward pass found, batch, reference log-probabilities or None) -> (sum over the batch, metrics: each a sum
# over the batch to be divided by its weight, or [2]: a sum and what to divide it by)
Loss = Callable[[Any, Batch, torch.Tensor | None], tuple[torch.Tensor, dict[str, torch.Tensor]]]


@dataclass(frozen=True, slots=True)
class Way:
    """How a stage computes: ``forward(objective, batch)`` finds what ``loss`` is a pure function of; ``measure(objective,
    batch)`` what a reference is asked for, [k x rows of the batch]."""

    forward: Callable[[Objective, Batch], Any]
    loss: Loss
    measure: Callable[[Objective, Batch], torch.Tensor] | None = None


class ValueHead(nn.Module):
    """One number from a hidden state; named as its file has it (``v_head.summary.weight``)."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.summary = nn.Linear(hidden_size, 1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[N] float32 from [N, hidden_size]."""
        weight, bias = self.summary.weight.float(), self.summary.bias.float()
        with torch.autocast(hidden.device.type, enabled=False):
            return torch.nn.functional.linear(hidden.float(), weight, bias).squeeze(-1)


class Objective(nn.Module):
    """A model and what is asked of it. Head and loss are computed within ``forward``, where a sharding backend has the
    weights gathered.

    ``head`` says where the logits come from (``trainkit.head``); ``v_head`` is there in rm; ``anchor`` is the frozen
    model that asft holds the policy near (None: the model itself with its adapter switched off). ``kept`` are tensors
    of the loss that outlive a step and belong into a checkpoint.
    """

    def __init__(
        self, model: nn.Module, way: Way, head: Any, *, v_head: ValueHead | None = None, anchor: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.v_head = v_head
        self.way, self.head = way, head
        object.__setattr__(self, "anchor", anchor)  # no part of what is trained, wrapped or saved
        self.kept: dict[str, torch.Tensor] = {}
        self.autocast: Callable[[], AbstractContextManager[object]] = nullcontext

    def forward(self, batch: Batch, reference: torch.Tensor | None = None, *, measure: bool = False) -> Any:
        """(loss summed over the batch, metrics), or with ``measure`` what a reference of this batch is: [k, rows]."""
        with self.autocast():
            if measure:
                assert self.way.measure is not None, "this stage has no reference"
                return self.way.measure(self, batch)
            found = self.way.forward(self, batch)
        loss, metrics = self.way.loss(found, batch, reference)
        if batch.idle:
            return loss * 0.0, {name: value * 0.0 for name, value in metrics.items()}
        return loss, metrics


def load_value_head(folder: Path, into: ValueHead) -> bool:
    """Take the weights of a reward model's head from its folder; False where it has none."""
    from safetensors.torch import load_file

    path = folder / VALUE_HEAD
    if not path.is_file():
        return False
    saved = load_file(path)
    into.load_state_dict({name.removeprefix("v_head."): value for name, value in saved.items()})
    return True
