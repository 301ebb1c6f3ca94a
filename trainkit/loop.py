"""When to step, log, evaluate and save; none of the arithmetic."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from registry.errors import StoppedByUser, StoppedError
from trainkit.backends.single import Single
from trainkit.config import LoopConfig, OptimConfig
from trainkit.data.collate import Batch
from trainkit.data.loader import StepPlan
from trainkit.metrics import Progress, RunLog
from trainkit.schedule import lr_at, warmup_length
from trainkit.stages import Loss
from trainkit.step import StepReport, optimizer_step
from trainkit.stop import StopRequest

log = logging.getLogger("tunekit")


@dataclass(frozen=True)
class Training:
    """What the loop drives. ``batch_of`` collates examples by number, ``reference_of`` finds a batch's reference."""

    model: nn.Module
    parameters: Sequence[nn.Parameter]
    optimizer: torch.optim.Optimizer
    loss: Loss
    plan: StepPlan
    batch_of: Callable[[Sequence[int]], Batch]
    reference_of: Callable[[Batch], torch.Tensor | None]
    evaluate: Callable[[], dict[str, float]] | None
    save: Callable[[int], None]
    backend: Single
    head_only: bool


def train(
    parts: Training, loop: LoopConfig, optim: OptimConfig, run_log: RunLog, progress: Progress, start_step: int
) -> None:
    """Run every step from ``start_step`` on.

    Losses stay on the device until they are logged: one read an interval. Raises ``StoppedByUser`` after a signal,
    with the step saved; ``StoppedError`` where the loss is no number any more.
    """
    total = parts.plan.total_steps
    warmup = warmup_length(optim.warmup_steps, optim.warmup_ratio, total)
    log_every = interval(loop.logging_strategy, loop.logging_steps, parts.plan)
    save_every = interval(loop.save_strategy, loop.save_steps, parts.plan)
    eval_every = interval(loop.eval_strategy, loop.eval_steps or loop.logging_steps, parts.plan)
    pending: list[StepReport] = []
    saved_at = start_step
    parts.model.train()
    with StopRequest() as stop:
        for number in range(start_step, total):
            lr = lr_at(
                number,
                peak=optim.learning_rate,
                shape=optim.lr_scheduler_type,
                total_steps=total,
                warmup=warmup,
                settings=optim.lr_scheduler_kwargs,
            )
            batches = [parts.batch_of(indices) for indices in parts.plan.step(number)]
            report = optimizer_step(
                parts.model, batches, [parts.reference_of(b) for b in batches], parts.loss, parts.optimizer, parts.parameters,
                parts.backend, lr=lr, max_grad_norm=optim.max_grad_norm, head_only=parts.head_only,
            )  # fmt: skip
            done = number + 1
            run_log.tokens += report.num_tokens
            pending.append(report)
            progress.step(done)
            if due(done, log_every, total) or (done == 1 and loop.logging_first_step) or stop:
                _log(pending, lr, done, parts.plan, run_log)
                pending = []
            if eval_every and parts.evaluate and due(done, eval_every, total):
                run_log.write(done, parts.plan.epoch_after(done), parts.evaluate())
            if (save_every and (done % save_every == 0 or done == total)) or (stop and save_every is not None):
                if pending:
                    _log(pending, lr, done, parts.plan, run_log)
                    pending = []
                parts.save(done)
                saved_at = done
            if stop and done < total:
                kept = (
                    f"checkpoint-{saved_at} is saved"
                    if saved_at == done
                    else "no checkpoint was kept (save_strategy: no)"
                )
                raise StoppedByUser(
                    f"stopped after step {done} of {total}; {kept}", mend="Run the same command again to go on."
                )


def interval(strategy: str, steps: float | None, plan: StepPlan) -> int | None:
    """Steps between two events; a share of all steps where below 1; None for never."""
    if strategy == "no" or (not steps and strategy == "steps"):
        return None
    if strategy == "epoch":
        return plan.steps_per_epoch
    return max(1, math.ceil(steps * plan.total_steps)) if steps < 1 else int(steps)  # type: ignore[operator]


def due(done: int, every: int | None, total: int) -> bool:
    """Whether an event falls after step ``done``; the last step always counts."""
    return every is not None and (done % every == 0 or done == total)


def _log(pending: Sequence[StepReport], lr: float, step: int, plan: StepPlan, run_log: RunLog) -> None:
    """Read the interval's numbers off the device in one copy and write their means."""
    names = ["loss", "grad_norm", *pending[-1].metrics]
    rows = [[r.loss, r.grad_norm, *r.metrics.values()] for r in pending]
    table = torch.stack([torch.stack([v.float() for v in row]) for row in rows]).cpu()
    means = dict(zip(names, table.mean(dim=0).tolist(), strict=True))
    means["grad_norm"] = float(table[-1, 1])
    run_log.write(step, plan.epoch_after(step), {**means, "learning_rate": lr})
    losses: list[float] = table[:, 0].tolist()
    run_log.loss_sum += sum(losses)
    if not all(math.isfinite(loss) for loss in losses):
        first = step - len(losses) + next(i for i, loss in enumerate(losses) if not math.isfinite(loss)) + 1
        raise StoppedError(
            f"the loss of step {first} is {losses[first - step + len(losses) - 1]}: training has diverged",
            mend="Lower learning_rate, or raise warmup_steps. Checkpoints before that step are kept.",
        )
