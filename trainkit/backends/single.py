"""The single backend: one process on one device."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

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
    """What the loop asks of a backend: a device, mixed precision, a prepared model, and sums over all ranks."""

    rank = 0
    world_size = 1

    def __init__(self, *, use_cpu: bool, bf16: bool) -> None:
        self.device = torch.device("cpu" if use_cpu or not torch.cuda.is_available() else "cuda")
        self._bf16 = bf16

    def prepare(self, model: nn.Module) -> nn.Module:
        """The model on its device, wrapped as the backend needs it."""
        if self.device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(threads_for(sum(p.numel() for p in model.parameters())))
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
