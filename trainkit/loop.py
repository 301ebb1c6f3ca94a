"""When to step, log, evaluate and save; none of the arithmetic."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from registry.errors import StoppedByUser, StoppedError
from trainkit.backends.base import Backend
from trainkit.config import LoopConfig
from trainkit.data.collate import Batch
from trainkit.data.loader import Plan
from trainkit.data.prefetch import Prefetch, Prepared
from trainkit.health import Health
from trainkit.metrics import Progress, RunLog
from trainkit.room import Room
from trainkit.schedule import Schedule
from trainkit.step import StepReport, optimizer_step
from trainkit.stop import StopRequest

log = logging.getLogger("tunekit")

READ_AT_LEAST_EVERY = 100  # steps; reports stay on the device until then, where nothing else reads them sooner


@dataclass(frozen=True, slots=True)
class Judged:
    """What an evaluation found: ``best`` so far, so that its checkpoint is wanted; ``enough`` of them without progress."""

    numbers: dict[str, float]
    best: bool = False
    enough: bool = False


@dataclass(frozen=True)
class Training:
    """What the loop drives.

    ``prepare(number)`` makes a step's batches, ``batches_of`` those of micro-batches that were cut anew, ``reference_of``
    finds a batch's reference. ``save(step, to go on with, position of the data)``; ``inspect(step, batches)`` keeps the
    batch of a bad step and says where. ``kept`` are the objective's tensors that outlive a step.
    """

    backend: Backend
    schedule: Schedule
    plan: Plan
    health: Health
    kept: dict[str, torch.Tensor]
    room: Room
    prepare: Callable[[int], Prepared]
    batches_of: Callable[[Sequence[Any]], list[Batch]]
    reference_of: Callable[[Batch], torch.Tensor | None]
    evaluate: Callable[[int], Judged] | None
    save: Callable[[int, bool, Mapping[str, Any]], None]
    inspect: Callable[[int, Sequence[Batch]], str]


@dataclass(frozen=True)
class Pending:
    """A step whose report is still on the device, with its batches in case it was a bad one."""

    report: StepReport
    batches: Sequence[Batch]


def train(
    parts: Training, loop: LoopConfig, run_log: RunLog, progress: Progress, start_step: int, *, max_grad_norm: float
) -> int:
    """Run every step from ``start_step`` on; how many were taken in the end.

    Losses stay on the device until they are logged: one read an interval. Raises ``StoppedByUser`` after a signal,
    with the step saved; ``StoppedError`` where too many steps in a row had a loss that could not be learned from.
    """
    plan, total = parts.plan, parts.plan.total_steps
    log_every = interval(loop.logging_strategy, loop.logging_steps, plan)
    save_every = interval(loop.save_strategy, loop.save_steps, plan)
    eval_every = interval(loop.eval_strategy, loop.eval_steps or loop.logging_steps, plan)
    reader = Reader(parts, run_log, loop.max_skipped_steps)
    parts.backend.module.train()
    with StopRequest() as stop, Prefetch(parts.prepare, start_step, total) as ahead:
        if parts.evaluate and loop.eval_on_start and start_step == 0:
            run_log.write(0, 0.0, parts.evaluate(0).numbers)
        for number in range(start_step, total):
            prepared = ahead.next()
            lr = parts.schedule.lr(number)
            report, batches = one_step(parts, prepared, lr=lr, max_grad_norm=max_grad_norm)
            done = number + 1
            run_log.count(report.num_tokens, report.num_trained, prepared.num_flops * parts.backend.world_size)
            reader.pending.append(Pending(report, batches))
            progress.step(done)
            stopping = asked_by_any(parts.backend, stop)
            ends = done == total
            log_now = due(done, log_every, total) or (done == 1 and loop.logging_first_step)
            save_now = due(done, save_every, total) or (stopping and not ends)
            eval_now = parts.evaluate is not None and due(done, eval_every, total) and eval_is_due(done, loop, plan)
            if log_now or save_now or eval_now or len(reader.pending) == READ_AT_LEAST_EVERY:
                reader.read(done)
                if log_every is None:
                    run_log.unlogged.clear()  # nobody will ask for them
            if log_now:
                run_log.write_interval(done, plan.epoch_after(done), lr)
            judged = parts.evaluate(done) if eval_now and parts.evaluate else Judged({})
            if judged.numbers:
                run_log.write(done, plan.epoch_after(done), judged.numbers)
            if save_now or judged.best or (judged.enough and not ends):
                parts.save(done, stopping, prepared.position)
            if stopping and not ends:
                raise StoppedByUser(
                    f"stopped after step {done} of {total}; checkpoint-{done} is saved",
                    mend="Run the same command again to go on.",
                )
            if judged.enough and not ends:
                log.info(
                    "stopping early after step %d of %d: no progress in %s evaluations",
                    done,
                    total,
                    loop.early_stopping_steps,
                )
                return done
        reader.read(total)
    return total


def one_step(parts: Training, prepared: Prepared, *, lr: float, max_grad_norm: float) -> tuple[StepReport, list[Batch]]:
    """One optimizer step, cut smaller where it does not fit; its report and the batches that it took in the end."""
    kept = {name: value.clone() for name, value in parts.kept.items()}
    generators = torch.get_rng_state(), torch.cuda.get_rng_state() if parts.backend.device.type == "cuda" else None

    def attempt(cut: list[list[Any]]) -> tuple[StepReport, list[Batch]]:
        batches = prepared.batches if parts.room.parts == 1 else parts.batches_of(cut)
        references = [parts.reference_of(batch) for batch in batches]
        return optimizer_step(
            parts.backend, batches, references, lr=lr, max_grad_norm=max_grad_norm, health=parts.health
        ), batches

    def undo() -> None:
        parts.backend.zero_grad()
        for name, value in parts.kept.items():
            value.copy_(kept[name])
        torch.set_rng_state(generators[0])
        if generators[1] is not None:
            torch.cuda.set_rng_state(generators[1])

    return parts.room.take(prepared.micro, attempt, undo)


def asked_by_any(backend: Backend, stop: StopRequest) -> bool:
    """Whether any rank was asked to stop: they stop after the same step."""
    return bool(stop) if backend.world_size == 1 else backend.sum_numbers([float(bool(stop))])[0] > 0


def eval_is_due(done: int, loop: LoopConfig, plan: Plan) -> bool:
    """Whether ``eval_delay`` (steps, or epochs where evaluation goes by epochs) is over."""
    return (plan.epoch_after(done) if loop.eval_strategy == "epoch" else done) >= loop.eval_delay


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


class Reader:
    """Reads what the last steps found off the device, in one copy, and counts the bad ones."""

    def __init__(self, parts: Training, run_log: RunLog, max_skipped: int) -> None:
        self.pending: list[Pending] = []
        self._parts, self._log, self._max_skipped = parts, run_log, max_skipped
        self._in_a_row = 0

    def read(self, step: int) -> None:
        """Log every step up to ``step``. Raises ``StoppedError`` after more bad steps in a row than may be."""
        pending, self.pending = self.pending, []
        if not pending:
            return
        rows = [torch.stack([v.float() for v in values_of(one.report)]) for one in pending]
        for number, (one, row) in enumerate(
            zip(pending, torch.stack(rows).tolist(), strict=True), step - len(pending) + 1
        ):
            loss, grad_norm, skipped, *metrics = row
            if skipped != 2:
                self._in_a_row = self._in_a_row + 1 if skipped == 1 else 0
            if skipped == 1:
                self._bad(number, one, loss, grad_norm)
            elif skipped == 0:  # a step that trained nothing has no loss
                means = {
                    name: value
                    for name, value in zip(one.report.metrics, metrics, strict=True)
                    if not math.isnan(value)
                }
                self._log.add({"loss": loss, "grad_norm": grad_norm, **means})

    def _bad(self, step: int, one: Pending, loss: float, grad_norm: float) -> None:
        self._log.skipped += 1
        what, value = (
            ("loss", loss) if not math.isfinite(loss) or math.isfinite(grad_norm) else ("gradient norm", grad_norm)
        )
        kept = self._parts.inspect(step, one.batches)
        if self._in_a_row > self._max_skipped:
            raise StoppedError(
                f"the {what} of step {step} is {value:g}: training has diverged, {self._in_a_row} steps in a row",
                mend=f"Lower learning_rate, or raise warmup_steps. Checkpoints before these steps are kept; look at {kept}.",
            )
        log.warning(
            "step %d is skipped: its %s is %g, no weight is changed; its batch is in %s", step, what, value, kept
        )


def values_of(report: StepReport) -> list[torch.Tensor]:
    """The scalars of a report, its metrics last."""
    return [report.loss, report.grad_norm, report.skipped, *report.metrics.values()]
