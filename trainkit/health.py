"""Whether a step may be trusted: one with a loss that is no number, or has exploded, changes no weight."""

from __future__ import annotations

from typing import Any

import torch

from trainkit.backends.base import Backend

SETTLED = 20  # steps before the usual loss is known well enough to hold others against it
MEMORY = 0.95  # how much of the usual loss the next step leaves
EXPLODED = 10.0  # times the usual loss, and that much above it


class Health:
    """Follows the usual loss of a run, on its device: nothing is read back.

    A step is bad where its loss or gradient norm is not finite, or where its loss is above ``EXPLODED`` times the usual
    one and at least ``EXPLODED`` above it. ``kept`` (the objective's) holds the state, so that a stopped run goes on with it.
    """

    def __init__(self, device: torch.device, kept: dict[str, torch.Tensor]) -> None:
        self.level = kept.setdefault("usual_loss", torch.zeros((), device=device))
        self.seen = kept.setdefault("steps_seen", torch.zeros((), device=device))

    @torch.no_grad()
    def judge(self, loss: torch.Tensor, grad_norm: torch.Tensor, *, trains: bool) -> torch.Tensor:
        """1.0 where the step is to be skipped, else 0.0; a scalar on the device. 2.0 for a step that ``trains`` nothing:
        it is skipped too, and is no sign of anything."""
        if not trains:
            return torch.full_like(self.level, 2.0)
        loss, grad_norm = loss.to(self.level), grad_norm.to(self.level)
        exploded = (self.seen >= SETTLED) & (loss > torch.maximum(EXPLODED * self.level, self.level + EXPLODED))
        bad = ~loss.isfinite() | ~grad_norm.isfinite() | exploded
        keep = torch.where(self.seen > 0, MEMORY, 0.0)
        self.level.copy_(torch.where(bad, self.level, keep * self.level + (1 - keep) * loss))
        self.seen += (~bad).to(self.seen)
        return bad.to(self.level)

    @staticmethod
    def may_update(backend: Backend, skipped: torch.Tensor) -> bool:
        """Whether to call ``backend.step``. The fused optimizers look at the flag on the device themselves (``found_inf``),
        so that a GPU need not be waited for; elsewhere it is read here."""
        optimizer: Any = backend.optimizer
        if backend.device.type == "cuda" and backend.name in ("single", "ddp") and optimizer.defaults.get("fused"):
            optimizer.found_inf = (skipped > 0).to(skipped)  # the kernel knows 1 alone
            return True
        return not bool(skipped)
