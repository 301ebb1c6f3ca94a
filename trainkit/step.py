"""One optimizer step: all of its arithmetic, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from trainkit.backends.single import Single
from trainkit.data.collate import Batch
from trainkit.logprobs import token_logprobs
from trainkit.stages import Loss


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a step found, still on its device: ``loss`` and ``grad_norm`` are scalars, metrics are means.

    ``num_trained`` is the weight of its batches: trained tokens, each by its weight, or pairs.
    """

    loss: torch.Tensor
    grad_norm: torch.Tensor
    metrics: dict[str, torch.Tensor]
    num_tokens: int
    num_trained: float


def optimizer_step(
    model: nn.Module,
    micro_batches: Sequence[Batch],
    references: Sequence[torch.Tensor | None],
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    backend: Single,
    *,
    lr: float,
    max_grad_norm: float,
    head_only: bool,
) -> StepReport:
    """Forward and backward over all micro-batches, clip, update.

    The loss is the sum over the step divided by its whole weight, so that how a step is cut into micro-batches does
    not change its gradient. ``max_grad_norm`` 0 clips nothing; the norm is reported all the same.
    """
    weight = sum(batch.weight for batch in micro_batches)
    total = torch.zeros((), device=backend.device)
    sums: dict[str, torch.Tensor] = {}
    for batch, reference in zip(micro_batches, references, strict=True):
        batch = batch.to(backend.device)
        with backend.autocast():
            logprobs = token_logprobs(model, batch, head_only=head_only)
        loss_sum, metrics = loss(logprobs, batch, reference)
        (loss_sum / (weight or 1)).backward()
        total += loss_sum.detach()
        for name, value in metrics.items():
            sums[name] = sums.get(name, 0) + value
    grad_norm = nn.utils.clip_grad_norm_(parameters, max_grad_norm if max_grad_norm > 0 else torch.inf)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return StepReport(
        loss=backend.sum(total) / (weight or 1),
        grad_norm=grad_norm,
        metrics={name: backend.sum(value) / (weight or 1) for name, value in sums.items()},
        num_tokens=sum(batch.num_tokens for batch in micro_batches),
        num_trained=weight,
    )
