"""The table of contents of a run: check, claim, encode, build, train, save, in that order."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from registry.atomic import write_json
from registry.datasets import DatasetEntry
from registry.errors import Faults, UsageError
from trainkit.backends import BACKENDS
from trainkit.backends.single import Single
from trainkit.chat_template import chat_template_of
from trainkit.checkpoint import load_optimizer, load_random_state, prune, publish_weights, save_checkpoint
from trainkit.claim import Claim, begin, check_before_end, check_same_start, claim_folder, finish, hold
from trainkit.compat import deviations
from trainkit.config import RunConfig
from trainkit.data.account import Examples
from trainkit.data.blocks import is_packed
from trainkit.data.collate import Batch
from trainkit.data.feed import Data, load_data
from trainkit.data.loader import StepPlan
from trainkit.data.stream_feed import StreamData, StreamPlan, stream_data
from trainkit.evaluate import mean_loss
from trainkit.hub import identity_of
from trainkit.logprobs import head_is_plain, keeps_packed_apart
from trainkit.loop import Training, train
from trainkit.metrics import Progress, RunLog
from trainkit.model import align_special_ids, check_room, load_trainable, prepare_trainable, tokenizer_to_save
from trainkit.optim import build_optimizer
from trainkit.preflight import check_places
from trainkit.reference import FILE as REFERENCE_FILE
from trainkit.reference import load_reference, pick, reference_logprobs, save_reference
from trainkit.results import plot_curves, trainer_state, write_card, write_config, write_results
from trainkit.rules import render_rules
from trainkit.stages import STAGES
from trainkit.start import CallableModule

log = logging.getLogger("tunekit")
REJECTS = "rejected_rows.jsonl"  # in the output folder: the rows that are not trained on
sys.modules[__name__].__class__ = CallableModule  # trainkit.run(config) goes on working once this module is loaded


@dataclass(frozen=True)
class RunResult:
    """What came of a run: the numbers of ``train_results.json``, and where its rows went."""

    folder: Path
    numbers: dict[str, Any]
    first_loss: float | None
    last_loss: float | None
    examples: Examples
    resumed_from: int

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        ledger = self.examples.ledger
        counts = {
            "rows_in": ledger.rows_in,
            "rows_out": ledger.rows_out,
            "rejected": dict(ledger.rejected),
            "examples": len(self.examples.train),
        }
        sequences_cut, tokens_cut = self.examples.cut()
        counts |= {"sequences_cut": sequences_cut, "tokens_cut": tokens_cut}
        losses = {"first_loss": self.first_loss, "last_loss": self.last_loss, "resumed_from": self.resumed_from}
        return {"command": "run", **counts, "outputs": [str(self.folder)], **losses, **self.numbers}


@dataclass(frozen=True)
class Engine:
    """The model with everything that moves it."""

    model: nn.Module
    trainable: list[tuple[str, nn.Parameter]]
    optimizer: torch.optim.Optimizer
    saved_tokenizer: Any
    backend: Single
    head_only: bool


def run(config: RunConfig, *, fresh: bool = False, quiet: bool = False) -> RunResult:
    """Train what ``config`` says. Raises the errors of each part; nothing half-written is left by any of them."""
    if config.not_built:
        raise Faults(config.source, config.not_built)
    if not config.do_train:
        raise UsageError("there is nothing to do", where=config.source, mend="Set do_train: true.")
    if not config.output_dir:
        raise UsageError('"output_dir" is missing: name the folder for checkpoints and the model', where=config.source)
    entries = check_places(config)
    with hold(Path(config.output_dir)):
        return train_in_folder(config, entries, claim_folder(config, fresh=fresh), quiet=quiet)


def train_in_folder(config: RunConfig, entries: dict[str, DatasetEntry], claim: Claim, *, quiet: bool) -> RunResult:
    """Every part of a run in order, in a folder that is its own."""
    torch.manual_seed(config.loop.seed)
    data = stream_data(config, entries) if config.data.streaming else load_data(config, entries)
    announce(config, entries, data)
    digest = f"{data.digest()}-{identity_of(config.model)}"
    check_same_start(claim, config, digest)
    check_before_end(claim, data.plan.total_steps)
    engine = build_engine(config, claim, data)
    begin(claim, config, digest, data.plan.total_steps)
    if not (claim.checkpoint and isinstance(data, StreamData)):
        data.examples.write_rejects(claim.folder / REJECTS)
    write_config(claim.folder, config)
    describe(config, engine, data.plan)
    progress = Progress(data.plan.total_steps, title=config.stage, quiet=quiet)
    run_log, training = ready(config, claim, data, engine, progress, digest)
    start = claim.checkpoint.step if claim.checkpoint else 0
    with progress:
        train(training, config.loop, config.optim, run_log, progress, start)
    if isinstance(data, StreamData):  # only now is it known which rows were not trained on
        data.examples.write_rejects(claim.folder / REJECTS)
        data.account.tell(config)
    numbers = save_all(config, claim, data, engine, run_log, training)
    finish(claim, config, digest, data.plan.total_steps)
    return RunResult(claim.folder, numbers, run_log.first_loss, run_log.last_loss, data.examples, start)


def announce(config: RunConfig, entries: dict[str, DatasetEntry], data: Data | StreamData) -> None:
    """Say once which keys have no effect here, and where this run differs from LLaMA-Factory's."""
    for note in config.notes:
        log.info("%s", note)
    for name, entry in entries.items():
        if config.stage == "pt" and entry.layout.kind == "chat":
            log.warning("dataset %s holds conversations, and pt trains on the first message of each alone", name)
    if data.tokenizer.eos_is_guessed:
        log.warning("the tokenizer names no end of sequence, so %s is taken as one", data.tokenizer.eos_token)
    for text in deviations(config, entries, data.tokenizer, data.examples.sets):
        log.info("unlike LLaMA-Factory (compat: strict does as they do): %s", text)


def build_engine(config: RunConfig, claim: Claim, data: Data | StreamData) -> Engine:
    """Model, adapter, optimizer; with the saved state over the fresh one where a run goes on."""
    backend = BACKENDS["single"](use_cpu=config.loop.use_cpu, bf16=config.loop.bf16)
    resumed = claim.checkpoint.path if claim.checkpoint else None
    model = load_trainable(config.model, config.method, bf16=config.loop.bf16, device=backend.device, resumed=resumed)
    check_room(model, data.tokenizer)
    align_special_ids(model.get_base_model() if hasattr(model, "peft_config") else model, data.tokenizer)  # type: ignore[operator]
    chat_template = None
    if config.stage != "pt":  # text has no turns, so a model that only read text keeps the template it had
        chat_template = chat_template_of(config.data.template, data.tokenizer, render_rules(config))
    saved_tokenizer = tokenizer_to_save(config.model, data.tokenizer, data.tokenizer_folder, chat_template)
    trainable = prepare_trainable(model)
    model = backend.prepare(model)
    if config.loop.recompute(on_gpu=backend.device.type == "cuda"):
        # not the reentrant kind: it needs inputs that require a gradient, and frozen embeddings give none
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})  # type: ignore[operator]
    if is_packed(config) and not (config.strict and not config.data.neat_packing):
        check_packs(model, backend, config.model.model_name_or_path)
    optimizer = build_optimizer(config.optim, model, trainable)
    return Engine(model, trainable, optimizer, saved_tokenizer, backend, head_is_plain(model))


def check_packs(model: nn.Module, backend: Single, name: str) -> None:
    """Raise ``UsageError`` for a model in which packed examples would see each other."""
    with backend.autocast():
        apart = keeps_packed_apart(model)
    if not apart:
        raise UsageError(
            "this kind of model cannot keep packed examples apart: what comes first in a block reaches what comes after",
            where=name,
            mend="Remove packing and neat_packing; batching_strategy: token_balanced saves padding without them.",
        )


def ready(
    config: RunConfig, claim: Claim, data: Data | StreamData, engine: Engine, progress: Progress, digest: str
) -> tuple[RunLog, Training]:
    """The last preparations: the reference of a preference stage, then the saved position where a run goes on."""
    stage, backend, plan = STAGES[config.stage], engine.backend, data.plan
    objective = stage.make_loss(config.preference)
    reference = needed_reference(config, claim, data, engine, digest) if stage.needs_reference else None
    if claim.checkpoint:
        load_optimizer(claim.checkpoint, engine.optimizer, engine.trainable)
        if isinstance(plan, StreamPlan) and "stream" in claim.checkpoint.state:
            plan.go_to(claim.checkpoint.step, claim.checkpoint.state["stream"])
            data.account.go_on(claim.checkpoint.state["rows"], claim.checkpoint.path.parent / REJECTS)  # type: ignore[union-attr]
        backend.set_random_state(load_random_state(claim.checkpoint))
        log.info(
            "going on with the unfinished run in %s, after step %d of %d",
            claim.folder,
            claim.checkpoint.step,
            plan.total_steps,
        )
    run_log = RunLog(claim.folder, plan.total_steps, progress, claim.checkpoint.state if claim.checkpoint else None)

    def reference_of(batch: Batch) -> torch.Tensor | None:
        return pick(reference, batch.indices, backend.device)

    def evaluate() -> dict[str, float]:
        found: dict[str, float] = {}
        for name, batches in data.eval_batches(config.loop.per_device_eval_batch_size).items():
            found |= mean_loss(
                engine.model, batches, reference_of, objective, backend, head_only=engine.head_only,
                perplexity=config.stage == "pt", by_batch=config.strict, name=name,
            )  # fmt: skip
        return found

    def save(step: int, to_go_on: bool) -> None:
        state = trainer_state(step, plan.total_steps, plan.epoch_after(step), run_log)
        state |= {"data": digest, "fingerprint": config.fingerprint()}
        if isinstance(plan, StreamPlan):
            state |= {"stream": plan.position, "rows": data.account.state()}  # type: ignore[union-attr]
            data.examples.write_rejects(claim.folder / REJECTS)
        optimizer = None if config.loop.save_only_model and not to_go_on else engine.optimizer
        save_checkpoint(
            claim.folder, step, engine.model, engine.saved_tokenizer, state,
            optimizer=optimizer, trainable=engine.trainable, random_state=backend.random_state(),
        )  # fmt: skip
        prune(claim.folder, config.loop.save_total_limit)

    return run_log, Training(
        model=engine.model, parameters=[p for _, p in engine.trainable], optimizer=engine.optimizer, loss=objective, plan=plan,
        batch_of=data.batch_of, reference_of=reference_of, evaluate=evaluate if data.examples.evals else None, save=save,
        backend=backend, head_only=engine.head_only,
    )  # fmt: skip


def needed_reference(
    config: RunConfig, claim: Claim, data: Data | StreamData, engine: Engine, digest: str
) -> torch.Tensor:
    """The reference of a run: what its first part saved, or computed now and saved.

    Raises ``UsageError`` where a run is to go on and the file is gone, or holds too few steps: its model is no
    reference any more.
    """
    total = len(data.examples.train) + len(data.examples.eval)
    if claim.checkpoint:
        saved = load_reference(claim.checkpoint.path.parent, digest)
        if saved is None:
            raise UsageError(
                f"{REFERENCE_FILE} of the unfinished run is gone",
                where=str(claim.checkpoint.path.parent),
                mend="Add --fresh to start over.",
            )
        to_come = {i for n in range(claim.checkpoint.step, data.plan.total_steps) for m in data.plan.step(n) for i in m}
        if saved[:, sorted(to_come)].isnan().any():
            raise UsageError(
                "the reference was measured for fewer steps than this run is to have",
                where=str(claim.checkpoint.path.parent),
                mend="Train within the steps that it was begun with, or start over with --fresh.",
            )
        save_reference(claim.folder, saved, digest)
        return saved
    steps = range(min(data.plan.total_steps, data.plan.steps_per_epoch))
    batches = (data.batch_of(indices) for number in steps for indices in data.plan.step(number))
    log.info("measuring the reference: one pass over the pairs, before the first step")
    adapter_off = config.strict and bool(config.model.adapter_name_or_path) and not config.method.create_new_adapter
    found = reference_logprobs(
        engine.model, chain(batches, *data.eval_batches(config.loop.per_device_eval_batch_size).values()), total, engine.backend,
        head_only=engine.head_only, adapter_off=adapter_off,
    )  # fmt: skip
    save_reference(claim.folder, found, digest)
    return found


def describe(config: RunConfig, engine: Engine, plan: StepPlan | StreamPlan) -> None:
    """Say what will be trained, in one line."""
    trained = sum(p.numel() for _, p in engine.trainable)
    total = sum(p.numel() for p in engine.model.parameters())
    log.info(
        "%s, %s: %s of %s parameters trained on %s; %s, %d steps of %d × %d",
        config.stage, config.method.finetuning_type, f"{trained:,}", f"{total:,}", engine.backend.device,
        _amount(plan), plan.total_steps, plan.batch_size, plan.accumulation,
    )  # fmt: skip


def _amount(plan: StepPlan | StreamPlan) -> str:
    if isinstance(plan, StreamPlan):
        return "streamed rows"
    return f"{plan.num_examples} examples" + (f" in {plan.num_units} blocks" if plan.packed else "")


def save_all(
    config: RunConfig, claim: Claim, data: Data | StreamData, engine: Engine, run_log: RunLog, training: Training
) -> dict[str, Any]:
    """Weights, results, curves and card into the output folder; returns the numbers of ``train_results.json``."""
    folder, plan = claim.folder, data.plan
    publish_weights(folder, engine.model, engine.saved_tokenizer)
    numbers = run_log.summary(plan)
    write_results(folder, "train", numbers)
    if training.evaluate and (config.do_eval or config.loop.eval_strategy != "no"):
        began = time.monotonic()
        found = training.evaluate()
        seconds = time.monotonic() - began
        found |= {
            "eval_runtime": round(seconds, 4),
            "eval_samples_per_second": round(len(data.examples.eval) / max(seconds, 1e-9), 3),
        }
        write_results(folder, "eval", {**found, "epoch": numbers["epoch"]})
        numbers |= found
    write_json(
        folder / "trainer_state.json",
        trainer_state(plan.total_steps, plan.total_steps, plan.epoch_after(plan.total_steps), run_log),
    )
    if config.plot_loss:
        plot_curves(folder, run_log.history)
    ledger = data.examples.ledger
    write_card(folder, config, numbers, ledger.rows_in, len(data.examples.train), len(data.examples.eval))
    return numbers
