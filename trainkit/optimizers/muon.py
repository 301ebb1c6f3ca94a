"""Muon: orthogonalised momentum for matrices, AdamW for the rest (Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from registry.errors import UsageError
from trainkit.config import OptimConfig
from trainkit.optimizers.groups import Named, decay_groups
from trainkit.optimizers.named import adam_settings


def build(settings: OptimConfig, model: nn.Module, trainable: Named) -> torch.optim.Optimizer:
    """``use_muon``: matrices but embeddings and heads by ``torch.optim.Muon``, scaled to AdamW's step (Liu et al. 2025,
    eq. 4), so that one learning rate fits both. Raises ``UsageError`` where torch is older than 2.9."""
    if not hasattr(torch.optim, "Muon"):
        raise UsageError(
            f'"use_muon: true" needs torch 2.9 or newer; {torch.__version__} is installed',
            mend='Install it: pip install "torch>=2.9"',
        )
    matrices = {n for n, p in trainable if p.ndim == 2 and "embed" not in n and "lm_head" not in n}
    parts: list[torch.optim.Optimizer] = []
    if matrices:
        parts.append(
            torch.optim.Muon(
                [p for n, p in trainable if n in matrices],
                lr=settings.learning_rate,
                weight_decay=settings.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    if rest := [(n, p) for n, p in trainable if n not in matrices]:
        groups = decay_groups(model, rest, settings.weight_decay)
        parts.append(torch.optim.AdamW(groups, **adam_settings(settings), fused=True))
    return Several(parts)


class Several(torch.optim.Optimizer):
    """Optimizers of different weights as one: their groups and their state are its own."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts = parts
        for part in parts:
            part.state = self.state

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of each."""
        for part in self.parts:
            part.step()
