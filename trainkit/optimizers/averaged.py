"""Optimizers that train at one point and are to be used at another (schedule-free ones): the change between the two."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch


@contextmanager
def as_used(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """The weights are those to evaluate and save for the time of the block. Defazio et al. 2024, "The Road Less Scheduled",
    section 2: training goes on at an interpolation that is not the average. Nothing changes for any other optimizer."""
    switched: Any = optimizer
    if not (hasattr(switched, "eval") and hasattr(switched, "train")):
        yield
        return
    switched.eval()
    try:
        yield
    finally:
        switched.train()


def paused(optimizer: torch.optim.Optimizer):  # type: ignore[no-untyped-def]
    """A block in which a backward pass changes no weight, also with an optimizer that steps within it."""
    return optimizer.paused() if hasattr(optimizer, "paused") else nullcontext()


def begin(optimizer: torch.optim.Optimizer) -> None:
    """Let an optimizer that has two points stand at the one to train at."""
    switched: Any = optimizer
    if hasattr(switched, "eval") and hasattr(switched, "train"):
        switched.train()
