"""Where a run's reference comes from: its own first part, the cache, or one pass over the rows before the first step."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path

import torch
from torch import nn

from registry.errors import UsageError, reason_of
from registry.tokenizer import Tokenizer
from trainkit.claim import Claim
from trainkit.config import ModelConfig, PreferenceConfig, RunConfig
from trainkit.data.collate import Batch
from trainkit.data.feed import Data
from trainkit.data.loader import StepPlan
from trainkit.data.prefetch import with_idle
from trainkit.data.stream_feed import StreamData
from trainkit.engine import Engine
from trainkit.head import find_head
from trainkit.hub import identity_of, model_folder
from trainkit.model import PROBES, load_frozen
from trainkit.objective import Objective
from trainkit.reference import FILE, kept_path, load_reference, reference_logprobs, save_reference
from trainkit.stages import STAGES

log = logging.getLogger("tunekit")


def needed_reference(
    config: RunConfig, claim: Claim, data: Data | StreamData, engine: Engine, digest: str
) -> torch.Tensor:
    """[2, examples]: the reference of a run, kept beside its checkpoints and, by content, in the cache. All ranks.

    Raises ``UsageError`` where a run is to go on and the file is gone, or holds too few steps: its model is no
    reference any more.
    """
    path, backend = claim.folder / FILE, engine.backend
    if claim.checkpoint:
        saved = backend.share(_saved(claim, data, digest) if backend.rank == 0 else None)
        if backend.rank == 0:
            save_reference(path, saved, digest)
        return saved
    kept = kept_path(config.data.cache_path, content_of(config, data, digest))
    found = backend.share(_kept(kept, digest, data) if backend.rank == 0 else None)
    if found is None:
        log.info("measuring the reference: one pass over the rows, before the first step")
        found = measure(config, data, engine)
        if backend.rank == 0:
            try:
                save_reference(kept, found, digest)
            except OSError as error:  # the next run measures again
                log.warning("the reference is not kept in the cache: %s", reason_of(error))
    else:
        log.info("the reference was measured before; it is taken from the cache")
    if backend.rank == 0:
        save_reference(path, found, digest)
    return found


def _saved(claim: Claim, data: Data | StreamData, digest: str) -> torch.Tensor:
    assert claim.checkpoint is not None
    folder = claim.checkpoint.path.parent
    saved = load_reference(folder / FILE, digest)
    if saved is None:
        raise UsageError(f"{FILE} of the unfinished run is gone", where=str(folder), mend="Add --fresh to start over.")
    if saved[:, trained_in(data, range(claim.checkpoint.step, data.plan.total_steps))].isnan().any():
        raise UsageError(
            "the reference was measured for fewer steps than this run is to have",
            where=str(folder),
            mend="Train within the steps that it was begun with, or start over with --fresh.",
        )
    return saved


def _kept(path: Path, digest: str, data: Data | StreamData) -> torch.Tensor | None:
    found = load_reference(path, digest)
    if found is None:
        return None
    return None if found[:, trained_in(data, first_pass(data))].isnan().any() else found


def trained_in(data: Data | StreamData, steps: range) -> list[int]:
    """The examples that any rank trains on in these steps."""
    assert isinstance(data.plan, StepPlan), "a stage with a reference is not streamed"
    plans = [replace(data.plan, rank=rank) for rank in range(data.plan.world)]
    return sorted({i for number in steps for plan in plans for micro in plan.step(number) for i in micro})


def check_vocabulary(config: RunConfig, tokenizer: Tokenizer) -> None:
    """Raise ``UsageError`` where the tokenizer beside ``ref_model`` gives other ids than the policy's: its log-probabilities
    would be those of another text. One that has no tokenizer beside it is told by its rows alone, once it is loaded."""
    name = config.preference.ref_model
    if not name or not STAGES[config.stage].needs_reference(config.preference):
        return
    folder = model_folder(_named(config.model, name))
    if not (folder / "tokenizer.json").is_file():
        return
    theirs = Tokenizer(folder)
    for text, ids, other in zip(PROBES, *(t.encode_batch(PROBES) for t in (tokenizer, theirs)), strict=True):
        if ids != other:
            raise UsageError(
                f"ref_model does not share the vocabulary of the model that is trained: {text!r} is {other[:6]} to it, "
                f"and {ids[:6]} to the other",
                where=name,
                mend="A reference must read the same token ids: choose a model with the same tokenizer.",
            )


def content_of(config: RunConfig, data: Data | StreamData, digest: str) -> str:
    """A hash of everything that a reference is computed from: the rows (``digest`` has them and the base), adapters, a
    second model, precision, and the order of an epoch, by which rows share a batch."""
    model, settings, loop = config.model, config.preference, config.loop
    parts = [
        digest, config.stage, config.compat, loop.bf16, asdict(model), asdict(config.method),
        [identity_of(_named(model, adapter)) for adapter in model.adapter_name_or_path or ()],
        settings.ref_model and identity_of(_named(model, settings.ref_model)), 
        [identity_of(_named(model, adapter)) for adapter in settings.ref_model_adapters or ()],
        settings.ref_model_quantization_bit, len(data.examples.train), len(data.examples.eval),
        loop.seed, loop.data_seed, loop.per_device_train_batch_size, loop.disable_shuffling,
    ]  # fmt: skip
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def _named(model: ModelConfig, name: str) -> ModelConfig:
    return replace(model, model_name_or_path=name, adapter_name_or_path=None)


def first_pass(data: Data | StreamData) -> range:
    """The steps that show every example that the run will train on once."""
    return range(min(data.plan.total_steps, data.plan.steps_per_epoch))


def measure(config: RunConfig, data: Data | StreamData, engine: Engine) -> torch.Tensor:
    """One pass: by the policy itself as it is before the first step, by the base below its adapters, or by a second
    model that is loaded for this pass alone."""
    backend, settings = engine.backend, config.preference
    total = len(data.examples.train) + len(data.examples.eval)
    evals = data.eval_batches(config.loop.per_device_eval_batch_size).values()
    batches = chain(_train_batches(data), *evals)
    if settings.ref_model:
        return reference_logprobs(second_model(config, data, engine), batches, total, backend)
    continued = bool(config.model.adapter_name_or_path) and not config.method.create_new_adapter
    below = engine.model if config.strict and continued else None
    return reference_logprobs(backend.module, batches, total, backend, adapter_of=below)


def _train_batches(data: Data | StreamData) -> Iterator[Batch]:
    for number in first_pass(data):
        batches = [data.batch_of(micro) for micro in data.plan.step(number)]
        yield from with_idle(batches, data.plan.micro_in_step(number), data.spare)


def second_model(config: RunConfig, data: Data | StreamData, engine: Engine) -> nn.Module:
    """The objective of ``ref_model``, every rank with the whole of it. Raises ``UsageError`` for one of another vocabulary."""
    settings: PreferenceConfig = config.preference
    assert settings.ref_model is not None
    model = load_frozen(
        config.model, settings.ref_model, settings.ref_model_adapters, settings.ref_model_quantization_bit,
        bf16=config.loop.bf16, device=engine.backend.device,
    )  # fmt: skip
    ours, theirs = (m.get_input_embeddings().weight.shape[0] for m in (engine.model, model))  # type: ignore[operator, union-attr]
    if theirs < data.tokenizer.size:
        raise UsageError(
            f"ref_model has {theirs:,} rows for tokens, the model that is trained {ours:,}: they do not share a vocabulary",
            where=settings.ref_model,
            mend="A reference must read the same token ids: choose a model with the same tokenizer.",
        )
    with engine.backend.autocast():
        head = find_head(model)
    objective = Objective(model, engine.objective.way, head)
    objective.autocast = engine.backend.autocast
    return objective.to(engine.backend.device)
