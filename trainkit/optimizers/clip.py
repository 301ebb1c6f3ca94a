"""The norm of all gradients, and gradients cut to it; sparse ones too."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> torch.Tensor:
    """The 2-norm over the gradients of ``parameters`` (scalar); they are scaled to ``max_norm`` where it is above 0.

    The same as ``nn.utils.clip_grad_norm_``, which knows no sparse gradients: BAdam's share of each weight is one.
    """
    parameters = [p for p in parameters if p.grad is not None]
    if not any(p.grad.is_sparse for p in parameters if p.grad is not None):
        return nn.utils.clip_grad_norm_(parameters, max_norm if max_norm > 0 else torch.inf)
    grads = [p.grad for p in parameters if p.grad is not None]
    norm = torch.stack([(g.coalesce().values() if g.is_sparse else g).norm() for g in grads]).norm()
    if max_norm > 0:
        for grad in grads:
            grad.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm
