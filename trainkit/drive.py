"""The middle of a run: everything is built and claimed, and the loop is driven from its start, or its checkpoint, to the end."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from trainkit.backends.base import Backend
from trainkit.best import Best, watch
from trainkit.claim import Claim
from trainkit.config import ReportConfig, RunConfig
from trainkit.data.collate import Batch
from trainkit.data.feed import Data
from trainkit.data.loader import StepPlan
from trainkit.data.prefetch import Prepared, with_idle
from trainkit.data.stream_feed import StreamData, StreamPlan
from trainkit.engine import Engine, go_on
from trainkit.evaluate import mean_loss
from trainkit.finish import save_all
from trainkit.forecast.at_start import advice
from trainkit.inspect_batch import save_batch
from trainkit.longest import longest_micro, rehearse
from trainkit.loop import Judged, Training, train
from trainkit.metrics import Progress, RunLog
from trainkit.optimizers.averaged import as_used
from trainkit.optimizers.averaged import begin as begin_at_training_point
from trainkit.reference import pick
from trainkit.reference_run import needed_reference
from trainkit.reports import open_reports
from trainkit.results import trainer_state
from trainkit.room import Room
from trainkit.saver import Saver
from trainkit.schedule import make_schedule
from trainkit.snapshot import take_snapshot
from trainkit.stages import STAGES
from trainkit.throughput import flops_of, peak_of

log = logging.getLogger("tunekit")
REJECTS = "rejected_rows.jsonl"  # in the output folder: the rows that are not trained on
UNITS = {"pt": "tokens", "sft": "tokens", "kto": "rows"}  # what a step's weight counts; pairs in the other stages


def drive(
    config: RunConfig, claim: Claim, data: Data | StreamData, engine: Engine, digest: str, *, quiet: bool
) -> tuple[dict[str, Any], RunLog]:
    """Train every step that is left and leave the results; the numbers of ``train_results.json``, and the log. All ranks."""
    backend, plan, loop = engine.backend, data.plan, config.loop
    first, start = backend.rank == 0, claim.checkpoint.step if claim.checkpoint else 0
    progress = Progress(plan.total_steps, title=config.stage, quiet=quiet)
    with (
        Saver(claim.folder, keep=loop.save_total_limit) as saver,
        open_reports(config.report if first else silent(config), claim.folder, config.flat(), step=start) as reports,
    ):
        run_log = RunLog(
            claim.folder, plan.total_steps, progress, claim.checkpoint.state if claim.checkpoint else None, reports=reports,
            peak=peak_of(backend.device, backend.world_size), unit=UNITS.get(config.stage, "pairs"),
            on_gpu=backend.device.type == "cuda", writes=first,
        )  # fmt: skip
        training, best = make_training(config, claim, data, engine, run_log, saver, digest)
        if isinstance(plan, StepPlan) and not start:
            rehearse_longest(training, plan, data.examples.train.lengths, engine.state_bytes)
        begin_at_training_point(backend.optimizer)
        done = start
        if not (best and best.stop):  # stopped early once, and killed before the end of it
            with progress:
                done = train(training, loop, run_log, progress, start, max_grad_norm=config.optim.max_grad_norm)
        saver.finish()
        run_log.checkpoints_failed = saver.failed
        if isinstance(data, StreamData) and first:  # only now is it known which rows were not trained on
            data.examples.write_rejects(claim.folder / REJECTS)
            data.account.tell(config)
        with as_used(backend.optimizer):
            weights = backend.weights()
        snapshot = take_snapshot(engine.layout, done, weights, state={}) if weights is not None else None
        kept = best.step if best and loop.load_best_model_at_end else None
        return save_all(config, claim, data, snapshot, run_log, training, done, best_step=kept), run_log


def rehearse_longest(training: Training, plan: StepPlan, lengths: Sequence[int], state_bytes: int) -> None:
    """Rehearse each rank's longest micro-batch; not where one of them has none at all, as they compute together."""
    micro, backend = longest_micro(plan, lengths), training.backend
    if backend.sum_numbers([float(micro is not None)])[0] == backend.world_size and micro is not None:
        rehearse(backend, training.room, micro, training.batches_of, training.reference_of, training.kept, state_bytes)


def can_cut(backend: Backend) -> bool:
    """Whether a step that runs out of memory may be done again: not among several processes, which are in the midst of it
    together, and not where the optimizer steps within the backward pass."""
    return backend.world_size == 1 and not getattr(backend.optimizer, "in_backward", False)


def is_likelihood(config: RunConfig) -> bool:
    """Whether the loss is the mean negative log-likelihood of a token, whose exponential is the perplexity."""
    loss = config.loss
    return config.stage in ("pt", "sft") and not (loss.use_dft_loss or loss.use_eaft_loss or loss.use_asft_loss)


def silent(config: RunConfig) -> ReportConfig:
    """The same run, telling no tracker: one process of a run tells them."""
    return replace(config.report, report_to=None, use_swanlab=False)


def make_training(
    config: RunConfig, claim: Claim, data: Data | StreamData, engine: Engine, run_log: RunLog, saver: Saver, digest: str
) -> tuple[Training, Best | None]:
    """What the loop drives: the reference of a preference stage first, then the saved position where a run goes on. With it
    the judge of its evaluations."""
    stage, backend, plan, loop = STAGES[config.stage], engine.backend, data.plan, config.loop
    needs = stage.needs_reference(config.preference)
    reference = needed_reference(config, claim, data, engine, digest) if needs else None
    schedule, best = make_schedule(config.optim, plan.total_steps), watch(loop)
    if claim.checkpoint:
        schedule.load_state(claim.checkpoint.state.get("schedule", {}))
        if best:
            best.load_state(claim.checkpoint.state)
            if best.step and loop.load_best_model_at_end:
                saver.protect(best.step)
        if isinstance(plan, StreamPlan) and "stream" in claim.checkpoint.state:
            plan.go_to(claim.checkpoint.step, claim.checkpoint.state["stream"])
            data.account.go_on(claim.checkpoint.state["rows"], claim.checkpoint.path.parent / REJECTS)  # type: ignore[union-attr]
        go_on(engine, claim.checkpoint)
        log.info(
            "going on with the unfinished run in %s, after step %d of %d",
            claim.folder, claim.checkpoint.step, plan.total_steps,
        )  # fmt: skip

    def reference_of(batch: Batch) -> torch.Tensor | None:
        return pick(reference, batch.indices, backend.device)

    def batches_of(micro: Sequence[Any]) -> list[Batch]:
        return [data.batch_of(units) for units in micro]

    def prepare(number: int) -> Prepared:
        micro = plan.step(number)
        batches = with_idle(batches_of(micro), plan.micro_in_step(number), data.spare)
        if backend.device.type == "cuda":
            batches = [batch.pinned() for batch in batches]
        position = {}
        if isinstance(plan, StreamPlan):
            position = {"stream": plan.position, "rows": data.account.state()}  # type: ignore[union-attr]
        return Prepared(number, micro, batches, position, flops_of(batches, engine.work))

    def judge(step: int) -> Judged:
        found: dict[str, float] = {}
        with as_used(backend.optimizer):
            for name, batches in data.eval_batches(loop.per_device_eval_batch_size).items():
                found |= mean_loss(
                    backend, batches, reference_of, perplexity=is_likelihood(config),
                    by_batch=config.strict, name=name, pairs_accuracy=config.stage == "rm",
                )  # fmt: skip
        if schedule.needs_metric and step:
            schedule.saw(found[best.metric if best else "eval_loss"])
        if best is None:
            return Judged(found)
        kept = best.saw(step, found) and loop.load_best_model_at_end
        if kept:
            saver.protect(step)
        return Judged(found, best=kept, enough=best.stop)

    def save(step: int, to_go_on: bool, position: Mapping[str, Any]) -> None:
        saver.wait_for_room()
        with as_used(backend.optimizer):
            weights, random = backend.weights(), backend.random_state()
            optimizer = None if loop.save_only_model and not to_go_on else backend.optimizer_state()
        if weights is None:
            return
        state = trainer_state(step, plan.total_steps, plan.epoch_after(step), run_log)
        state |= {"data": digest, "fingerprint": config.fingerprint(), "schedule": schedule.state(), **position}
        state |= best.state() if best else {}
        state["kept"] = {name: float(value) for name, value in engine.objective.kept.items()}
        if isinstance(plan, StreamPlan):
            data.examples.write_rejects(claim.folder / REJECTS)
        snapshot = take_snapshot(
            engine.layout, step, weights, state=state, optimizer=optimizer, random_state=random, trained=engine.shapes
        )
        saver.save(snapshot, final=to_go_on)

    def inspect(step: int, batches: Sequence[Batch]) -> str:
        return save_batch(claim.folder, step, batches, data.tokenizer.decode, rank=backend.rank)

    training = Training(
        backend=backend, schedule=schedule, plan=plan, health=engine.health, kept=engine.objective.kept,
        room=Room(alone=can_cut(backend), advice=lambda: advice(config, data, backend, engine.recompute)), prepare=prepare, batches_of=batches_of,
        reference_of=reference_of, evaluate=judge if data.examples.evals else None, save=save, inspect=inspect,
    )  # fmt: skip
    return training, best
