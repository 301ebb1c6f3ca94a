"""The single backend: one process on one device; the others say what differs when there are several."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from trainkit.backends.base import MakeOptimizer, Trainable
from trainkit.backends.process_group import Group
from trainkit.backends.random_state import random_state, set_random_state
from trainkit.backends.weights import copy_weights, trained
from trainkit.optimizers.clip import clip_gradients
from trainkit.place import OURS, Place

# Below this, a second thread gains nothing on an idle machine, and next to any other process it makes a step up to 25
# times slower: the threads wait for each other at every small operation.
SMALL_MODEL = 5_000_000  # parameters


def threads_for(num_parameters: int) -> int:
    """How many CPU threads a model is worth: one for small ones, else all cores that this process may use."""
    if num_parameters < SMALL_MODEL:
        return 1
    usable = getattr(os, "sched_getaffinity", None)  # Linux alone tells what this process may use
    return len(usable(0)) if usable else os.cpu_count() or 1


class Single:
    """One process of a run; what ``trainkit.backends.base.Backend`` promises, for one device alone."""

    name = "single"
    module: nn.Module
    optimizer: torch.optim.Optimizer

    def __init__(self, *, use_cpu: bool, bf16: bool, seed: int = 0, group: Group | None = None) -> None:
        if group is None:
            cpu = use_cpu or not torch.cuda.is_available()
            group = Group(Place(), device=torch.device("cpu" if cpu else "cuda"))
        self.group = group
        self.device, self.rank, self.world_size = group.device, group.rank, group.world_size
        self.local_rank = group.place.local_rank
        self._bf16, self._seed = bf16, seed
        self._trained: Trainable = []

    def prepare(self, objective: nn.Module, make_optimizer: MakeOptimizer) -> None:
        """Put the objective on the device and build the optimizer."""
        self._set_threads(objective)
        self.objective = self.module = objective.to(self.device)
        self._trained = trained(objective)
        self.optimizer = make_optimizer(self._trained)

    def _set_threads(self, objective: nn.Module) -> None:
        if self.device.type != "cpu":
            return
        threads = threads_for(sum(p.numel() for p in objective.parameters()))
        if OURS in os.environ:  # our launcher has set how many threads are this process's share
            torch.set_num_threads(min(threads, int(os.environ.get("OMP_NUM_THREADS", "1"))))
        elif "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(threads)

    @property
    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for _, parameter in self._trained]

    def autocast(self) -> AbstractContextManager[object]:
        """Compute in bfloat16 where the run asks for it; weights and optimizer stay in float32."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if self._bf16 else nullcontext()

    def accumulate(self, *, last: bool) -> AbstractContextManager[object]:
        """Around one micro-batch; there is nobody to exchange gradients with."""
        return nullcontext()

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of ``loss``."""
        loss.backward()

    def clip(self, max_norm: float) -> torch.Tensor:
        """The gradient's norm, before it is scaled down to ``max_norm`` (0 and less: left as it is)."""
        if any(p.grad is not None and p.grad.is_sparse for p in self._parameters):  # BAdam's shares of weights
            return clip_gradients(self._parameters, max_norm)
        norm = self._norm()
        if max_norm > 0:
            nn.utils.clip_grads_with_norm_(self._parameters, max_norm, norm)
        return norm

    def _norm(self) -> torch.Tensor:
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        return nn.utils.get_total_norm(gradients) if gradients else torch.zeros((), device=self.device)

    def step(self, lr: float) -> None:
        """Update at this learning rate, each group's times its ``lr_scale``, and drop the gradients."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        self._update()

    def _update(self) -> None:
        self.optimizer.step()
        self.zero_grad()

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks of a tensor on the device."""
        return self.group.sum(value)

    def sum_numbers(self, values: Sequence[float]) -> list[float]:
        """The sums over all ranks of plain numbers, by the CPU."""
        return self.group.sum_numbers(values)

    def share(self, value: Any) -> Any:
        """Rank 0's object."""
        return self.group.share(value)

    def barrier(self) -> None:
        """Wait for every rank."""
        self.group.barrier()

    def weights(self) -> dict[str, torch.Tensor] | None:
        """Copies on the CPU by the names of the model's state dict; None on all ranks but 0."""
        return copy_weights(self.objective, lambda name, tensor: tensor, keep=True) if self.rank == 0 else None

    def optimizer_state(self) -> dict[str, torch.Tensor] | None:
        """``"parameter|key"`` → tensor on the CPU; None on all ranks but 0."""
        from trainkit.optimizers.state import state_tensors

        return state_tensors(self.optimizer, self._trained) if self.rank == 0 else None

    def load_optimizer_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Put back what ``optimizer_state`` gave. Raises ``UsageError`` where the names do not match."""
        from trainkit.optimizers.state import load_state_tensors

        load_state_tensors(self.optimizer, self._trained, tensors)

    def random_state(self) -> dict[str, torch.Tensor] | None:
        """Every rank's random generators; None on all ranks but 0."""
        return random_state(self.group)

    def set_random_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put this rank's generators back; a rank that has no state there seeds itself anew."""
        set_random_state(self.group, state, seed=self._seed)
