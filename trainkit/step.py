"""One optimizer step: all of its arithmetic, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from registry.errors import StoppedError
from trainkit.backends.base import Backend
from trainkit.data.collate import Batch
from trainkit.health import Health
from trainkit.optimizers.groups import apply_learning_rate
from trainkit.room import is_out_of_memory


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a step found over all ranks, still on its device: ``loss``, ``grad_norm`` and ``skipped`` (1 where no weight
    was changed) are scalars, metrics are means (NaN where there was nothing to take the mean of). ``num_tokens`` that are
    no padding, ``num_trained`` the weight of all batches.
    """

    loss: torch.Tensor
    grad_norm: torch.Tensor
    skipped: torch.Tensor
    metrics: dict[str, torch.Tensor]
    num_tokens: int
    num_trained: float


def optimizer_step(
    backend: Backend,
    micro_batches: Sequence[Batch],
    references: Sequence[torch.Tensor | None],
    *,
    lr: float,
    max_grad_norm: float,
    health: Health,
) -> StepReport:
    """Forward and backward over all micro-batches of this rank, clip, update. All ranks, with as many micro-batches each.

    The loss is the sum over the step and all ranks divided by its whole weight, so that how a step is cut into
    micro-batches does not change its gradient. ``max_grad_norm`` 0 clips nothing; the norm is reported all the same.
    No weight is changed by a step that trains nothing, or whose loss ``health`` finds diverged.
    """
    own = [sum(batch.weight for batch in micro_batches), sum(batch.num_tokens for batch in micro_batches)]
    weight, num_tokens = backend.sum_numbers(own)
    if getattr(backend.optimizer, "in_backward", False):  # it steps as soon as a gradient is there
        apply_learning_rate(backend.optimizer.param_groups, lr)
    loss_sum, sums = gradients(backend, micro_batches, references, weight)
    grad_norm = backend.clip(max_grad_norm)
    names = sorted(sums)
    table = backend.sum(torch.stack((torch.stack((loss_sum, torch.zeros_like(loss_sum))), *(sums[n] for n in names))))
    loss = table[0, 0] / (weight or 1)
    counts = table[1:, 1].where(~table[1:, 1].isnan(), weight or 1)
    metrics = dict(zip(names, table[1:, 0] / counts, strict=True))
    skipped = health.judge(loss, grad_norm, trains=weight > 0)
    if health.may_update(backend, skipped):
        update(backend, lr)
    else:
        backend.zero_grad()
    return StepReport(
        loss=loss, grad_norm=grad_norm, skipped=skipped, metrics=metrics,
        num_tokens=int(num_tokens), num_trained=weight,
    )  # fmt: skip


def update(backend: Backend, lr: float) -> None:
    """Change the weights. Raises ``StoppedError`` where memory runs out meanwhile: some weights are changed by then, so the
    step cannot be done again."""
    try:
        backend.step(lr)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise StoppedError(
            "out of memory while the optimizer updates the weights",
            mend="An optimizer that keeps less (optim: adamw_8bit, adafactor) or lora makes room; the run goes on from its "
            "last checkpoint.",
        ) from error


def gradients(
    backend: Backend, micro_batches: Sequence[Batch], references: Sequence[torch.Tensor | None], weight: float
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Accumulate the gradients of a step; the loss and the metrics summed over this rank's micro-batches, as [2] each: the
    sum and its count (NaN for a metric that has none and goes by the weight of the step)."""
    total = torch.zeros((), device=backend.device)
    sums: dict[str, torch.Tensor] = {}
    for number, (batch, reference) in enumerate(zip(micro_batches, references, strict=True), start=1):
        batch = batch.to(backend.device)
        with backend.accumulate(last=number == len(micro_batches)):
            loss, metrics = backend.module(batch, reference)
            backend.backward(loss / (weight or 1))
        total += loss.detach()
        for name, value in metrics.items():
            pair = value if value.ndim else torch.stack((value, torch.full_like(value, torch.nan)))
            sums[name] = sums.get(name, 0) + pair.float()
    return total, sums
