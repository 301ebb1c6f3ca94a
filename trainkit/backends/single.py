"""The single backend: one process on one device."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn


class Single:
    """What the loop asks of a backend: a device, mixed precision, a prepared model, and sums over all ranks."""

    rank = 0
    world_size = 1

    def __init__(self, *, use_cpu: bool, bf16: bool) -> None:
        self.device = torch.device("cpu" if use_cpu or not torch.cuda.is_available() else "cuda")
        self._bf16 = bf16
        if self.device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
            # Threads beyond the cores that this process may use only wait for each other.
            torch.set_num_threads(min(torch.get_num_threads(), len(os.sched_getaffinity(0))))

    def prepare(self, model: nn.Module) -> nn.Module:
        """The model on its device, wrapped as the backend needs it."""
        return model.to(self.device)

    def autocast(self) -> AbstractContextManager[object]:
        """Compute in bfloat16 where the run asks for it; weights and optimizer stay in float32."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if self._bf16 else nullcontext()

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks; here there is one."""
        return value

    def random_state(self) -> dict[str, torch.Tensor]:
        """Every random generator's state that training draws from, as uint8 tensors."""
        state = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state()
        return state

    def set_random_state(self, state: dict[str, torch.Tensor]) -> None:
        """Put the generators back to a saved state."""
        torch.set_rng_state(state["cpu"])
        if "cuda" in state and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"])
