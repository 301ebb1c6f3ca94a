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
from trainkit.data.loader import Plan
from trainkit.metrics import Progress, RunLog
from trainkit.schedule import lr_at, warmup_length
from trainkit.stages import Loss
from trainkit.step import StepReport, optimizer_step
from trainkit.stop import StopRequest

log = logging.getLogger("tunekit")

READ_AT_LEAST_EVERY = 100  # steps; reports stay on the device until then, where nothing else reads them sooner


@dataclass(frozen=True)
class Training:
    """What the loop drives. ``batch_of`` collates examples by number, ``reference_of`` finds a batch's reference."""

    model: nn.Module
    parameters: Sequence[nn.Parameter]
    optimizer: torch.optim.Optimizer
    loss: Loss
    plan: Plan
    batch_of: Callable[[Sequence[int]], Batch]
    reference_of: Callable[[Batch], torch.Tensor | None]
    evaluate: Callable[[], dict[str, float]] | None
    save: Callable[[int, bool], None]  # after which step, and whether the run is to be gone on with from there
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
            log_now = due(done, log_every, total) or (done == 1 and loop.logging_first_step)
            save_now = due(done, save_every, total) or (bool(stop) and done < total)
            if log_now or save_now or len(pending) == READ_AT_LEAST_EVERY:
                read_reports(pending, done, run_log)
                pending = []
                if log_every is None:
                    run_log.unlogged.clear()  # nobody will ask for them
            if log_now:
                run_log.write_interval(done, parts.plan.epoch_after(done), lr)
            if parts.evaluate and due(done, eval_every, total):
                run_log.write(done, parts.plan.epoch_after(done), parts.evaluate())
            if save_now:
                parts.save(done, bool(stop))
            if stop and done < total:
                raise StoppedByUser(
                    f"stopped after step {done} of {total}; checkpoint-{done} is saved",
                    mend="Run the same command again to go on.",
                )
        read_reports(pending, total, run_log)


def interval(strategy: str, steps: float | None, plan: Plan) -> int | None:
    """Steps between two events; a share of all steps where below 1; None for never."""
    if strategy == "no" or (not steps and strategy == "steps"):
        return None
    if strategy == "epoch":
        return plan.steps_per_epoch
    return max(1, math.ceil(steps * plan.total_steps)) if steps < 1 else int(steps)  # type: ignore[operator]


def due(done: int, every: int | None, total: int) -> bool:
    """Whether an event falls after step ``done``; the last step always counts."""
    return every is not None and (done % every == 0 or done == total)


def read_reports(pending: Sequence[StepReport], step: int, run_log: RunLog) -> None:
    """Read what the last steps found off the device, in one copy. Raises ``StoppedError`` where a loss is no number."""
    if not pending:
        return
    names = ["loss", "grad_norm", *pending[-1].metrics]
    table = torch.stack([torch.stack([v.float() for v in (r.loss, r.grad_norm, *r.metrics.values())]) for r in pending])
    for number, row in enumerate(table.tolist(), start=step - len(pending) + 1):
        if not (math.isfinite(row[0]) and math.isfinite(row[1])):
            what, value = ("loss", row[0]) if not math.isfinite(row[0]) else ("gradient norm", row[1])
            raise StoppedError(
                f"the {what} of step {number} is {value}: training has diverged",
                mend="Lower learning_rate, or raise warmup_steps. Checkpoints before that step are kept.",
            )
        run_log.add(dict(zip(names, row, strict=True)))
