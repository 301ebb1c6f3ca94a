"""The ddp backend: the whole model in every process, gradients summed over all of them (torch's DistributedDataParallel)."""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from trainkit.backends.base import MakeOptimizer
from trainkit.backends.process_group import Group
from trainkit.backends.single import Single
from trainkit.backends.weights import trained
from trainkit.config import BackendConfig


class DDP(Single):
    """Data parallel: every process has a copy of the model and its share of each step's micro-batches."""

    name = "ddp"
    module: Any  # a DistributedDataParallel

    def __init__(self, *, settings: BackendConfig, bf16: bool, seed: int, group: Group) -> None:
        super().__init__(use_cpu=group.device.type == "cpu", bf16=bf16, seed=seed, group=group)
        group.start()
        self._settings = settings

    def prepare(self, objective: nn.Module, make_optimizer: MakeOptimizer) -> None:
        """Wrap the objective; rank 0's weights are sent to all. All ranks."""
        self._set_threads(objective)
        self.objective = objective.to(self.device)
        self._trained = trained(objective)
        options: dict[str, Any] = {}
        if self._settings.ddp_bucket_cap_mb:
            options["bucket_cap_mb"] = self._settings.ddp_bucket_cap_mb
        # torch 2.13 calls it by a new name, and warns of the old one
        known = inspect.signature(DistributedDataParallel).parameters
        buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        options[buffers] = bool(self._settings.ddp_broadcast_buffers)
        self.module = DistributedDataParallel(
            objective,
            find_unused_parameters=bool(self._settings.ddp_find_unused_parameters),
            static_graph=bool(self._settings.ddp_static_graph),
            gradient_as_bucket_view=True,
            **options,
        )
        self.optimizer = make_optimizer(self._trained)
        torch.manual_seed(self._seed + self.rank)  # dropout and noise differ from rank to rank; the weights are there

    def accumulate(self, *, last: bool) -> AbstractContextManager[object]:
        """Gradients stay with their rank until the last micro-batch of a step."""
        return nullcontext() if last else self.module.no_sync()

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of ``loss``. DDP takes the mean over ranks, and a step's gradient is the sum."""
        (loss * self.world_size).backward()
