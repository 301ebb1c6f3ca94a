"""A rehearsal on the longest micro-batch of a run, before its first step: what will not fit shows now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch

from trainkit.backends.base import Backend
from trainkit.data.collate import Batch
from trainkit.data.loader import StepPlan
from trainkit.optimizers.averaged import paused
from trainkit.room import Room

log = logging.getLogger("tunekit")

MOST_STEPS = 20_000  # looked through for the longest micro-batch


def longest_micro(plan: StepPlan, lengths: Sequence[int]) -> list[Any] | None:
    """The micro-batch of the first epoch with the most places: examples times the longest. Of a packed run any one."""
    if not plan.num_examples or not plan.total_steps:
        return None
    if plan.packed:
        return max(plan.step(0), key=len, default=None)
    found, most = None, -1
    for number in range(min(plan.total_steps, plan.steps_per_epoch, MOST_STEPS)):
        for micro in plan.step(number):
            places = len(micro) * max(int(lengths[n]) for n in micro)
            if places > most:
                found, most = micro, places
    return found


def rehearse(
    backend: Backend,
    room: Room,
    micro: list[Any],
    batches_of: Callable[[Sequence[Any]], list[Batch]],
    reference_of: Callable[[Batch], torch.Tensor | None],
    kept: dict[str, torch.Tensor],
    state_bytes: int,
) -> None:
    """Forward and backward on ``micro``, with ``state_bytes`` set aside for the optimizer's state that comes with the first
    step; no weight is changed, and every random generator and kept tensor is put back. All ranks."""
    before = {name: value.clone() for name, value in kept.items()}
    cpu = torch.get_rng_state()
    cuda = torch.cuda.get_rng_state() if backend.device.type == "cuda" else None
    backend.module.train()

    def attempt(cut: list[list[Any]]) -> None:
        # on the CPU untouched memory is none that is taken, so nothing would be learned from setting it aside
        aside = torch.empty(state_bytes, dtype=torch.uint8, device=backend.device) if cuda is not None else None
        for number, batch in enumerate(batches_of(cut), start=1):
            batch = batch.to(backend.device)
            with backend.accumulate(last=number == len(cut)):
                loss, _ = backend.module(batch, reference_of(batch))
                backend.backward(loss / (batch.weight or 1))
        del aside

    try:
        with paused(backend.optimizer):
            room.take([micro], attempt, backend.zero_grad)
    finally:
        backend.zero_grad()
        for name, value in kept.items():
            value.copy_(before[name])
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda)
