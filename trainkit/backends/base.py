"""What the loop asks of a backend: processes, a wrapped objective, gradients that are exchanged, state that is whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import nn

Trainable = list[tuple[str, nn.Parameter]]
MakeOptimizer = Callable[[Trainable], torch.optim.Optimizer]


class Backend(Protocol):
    """One process of a run. Methods marked "all ranks" must be called by every rank at the same point.

    ``module`` is the wrapped objective and ``optimizer`` what ``make_optimizer`` built (wrapped where the backend does
    so), both there after ``prepare``.
    """

    name: str
    rank: int
    local_rank: int
    world_size: int
    device: torch.device
    module: nn.Module
    optimizer: torch.optim.Optimizer

    def prepare(self, objective: nn.Module, make_optimizer: MakeOptimizer) -> None:
        """Put the objective on its device, wrap it, build the optimizer over its trained parameters. All ranks."""
        ...

    def autocast(self) -> AbstractContextManager[object]:
        """The precision that forward passes compute in."""
        ...

    def accumulate(self, *, last: bool) -> AbstractContextManager[object]:
        """Around forward and backward of one micro-batch; gradients are exchanged after the ``last`` one of a step."""
        ...

    def backward(self, loss: torch.Tensor) -> None:
        """Gradients of ``loss``, which is a sum over this rank's micro-batch divided by the weight of the whole step."""
        ...

    def clip(self, max_norm: float) -> torch.Tensor:
        """The gradient's norm over all ranks (scalar); gradients are scaled down to ``max_norm`` where that is above 0.
        All ranks."""
        ...

    def step(self, lr: float) -> None:
        """Update the weights at this learning rate (each group's times its ``lr_scale``) and drop the gradients."""
        ...

    def zero_grad(self) -> None:
        """Drop the gradients."""
        ...

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks of a tensor on the device. All ranks."""
        ...

    def sum_numbers(self, values: Sequence[float]) -> list[float]:
        """The sums over all ranks of plain numbers, by the CPU. All ranks."""
        ...

    def share(self, value: Any) -> Any:
        """Rank 0's object. All ranks."""
        ...

    def barrier(self) -> None:
        """Wait for every rank. All ranks."""
        ...

    def weights(self) -> dict[str, torch.Tensor] | None:
        """Whole tensors on the CPU by the names of the model's state dict (and of ``v_head.``); None on all ranks but 0.
        All ranks."""
        ...

    def optimizer_state(self) -> dict[str, torch.Tensor] | None:
        """``"parameter|key"`` → whole tensor on the CPU, however many ranks there are; None on all ranks but 0. All ranks."""
        ...

    def load_optimizer_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Put back what ``optimizer_state`` gave. All ranks."""
        ...

    def random_state(self) -> dict[str, torch.Tensor] | None:
        """The random generators' states of every rank (``"0|cpu"``, uint8); None on all ranks but 0. All ranks."""
        ...

    def set_random_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put the generators of this rank back; a rank that has no state there seeds itself anew."""
        ...
