"""The table of contents of a run: check, claim, encode, build, train, save, in that order."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from registry.datasets import DatasetEntry
from registry.errors import Faults, UsageError
from trainkit.backends import open_backend, open_group
from trainkit.backends.process_group import Group
from trainkit.claim import Claim, begin, check_before_end, check_same_start, claim_folder, finish, hold
from trainkit.compat import deviations
from trainkit.config import RunConfig
from trainkit.data.account import Examples
from trainkit.data.feed import Data, load_data
from trainkit.data.loader import StepPlan
from trainkit.data.stream_feed import StreamData, StreamPlan, stream_data
from trainkit.drive import REJECTS, drive
from trainkit.engine import Engine, build_engine, with_rows
from trainkit.forecast.at_start import recompute_for
from trainkit.hub import identity_of
from trainkit.precision import check_bf16
from trainkit.preflight import check_places
from trainkit.reference_run import check_vocabulary
from trainkit.results import write_config
from trainkit.start import CallableModule

log = logging.getLogger("tunekit")
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


def run(config: RunConfig, *, fresh: bool = False, quiet: bool = False) -> RunResult:
    """Train what ``config`` says. Raises the errors of each part; nothing half-written is left by any of them."""
    if config.not_built:
        raise Faults(config.source, config.not_built)
    if not config.do_train:
        raise UsageError("there is nothing to do", where=config.source, mend="Set do_train: true.")
    if not config.output_dir:
        raise UsageError('"output_dir" is missing: name the folder for checkpoints and the model', where=config.source)
    entries = check_places(config)
    group = open_group(config)
    try:
        with claimed(config, group, fresh=fresh) as claim:
            return train_in_folder(config, entries, claim, group, quiet=quiet or group.rank > 0)
    finally:
        group.close()


@contextmanager
def claimed(config: RunConfig, group: Group, *, fresh: bool) -> Iterator[Claim]:
    """The output folder, held by rank 0 for the time of the block, and what may be done with it. All ranks."""
    folder = Path(config.output_dir or "")
    with hold(folder) if group.rank == 0 else nullcontext():
        found = claim_folder(config, fresh=fresh, world=group.world_size) if group.rank == 0 else None
        yield group.share(found)


def train_in_folder(
    config: RunConfig, entries: dict[str, DatasetEntry], claim: Claim, group: Group, *, quiet: bool
) -> RunResult:
    """Every part of a run in order, in a folder that is its own."""
    given, first = config, group.rank == 0
    if claim.accumulation:
        config = replace(config, loop=replace(config.loop, gradient_accumulation_steps=claim.accumulation))
    backend = open_backend(config, group)
    if config.loop.bf16:
        check_bf16(backend.device)
    load = stream_data if config.data.streaming else load_data
    with group.one_first("preparing the data", each_node=not config.backend.data_shared_file_system):
        data: Data | StreamData = load(config, entries, rank=group.rank, world=group.world_size)
    if first:
        announce(config, entries, data)
    digest = f"{data.digest()}-{identity_of(config.model)}"
    check_same_start(claim, config, digest)
    check_before_end(claim, data.plan.total_steps)
    check_vocabulary(config, data.tokenizer)
    recompute = recompute_for(config, data, backend)
    engine = build_engine(config, claim, data, backend, recompute=recompute)
    data = with_rows(data, engine)
    if first:
        begin(claim, given, digest, data.plan.total_steps, world=group.world_size)
        if not (claim.checkpoint and isinstance(data, StreamData)):
            data.examples.write_rejects(claim.folder / REJECTS)
        write_config(claim.folder, config)
    describe(config, engine, data.plan)
    numbers, run_log = drive(config, claim, data, engine, digest, quiet=quiet)
    if first:
        finish(claim, given, digest, data.plan.total_steps, world=group.world_size)
    start = claim.checkpoint.step if claim.checkpoint else 0
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


def describe(config: RunConfig, engine: Engine, plan: StepPlan | StreamPlan) -> None:
    """Say what will be trained, in one line."""
    trained = sum(math.prod(shape) for shape in engine.shapes.values())
    total = engine.num_weights
    ranks = engine.backend.world_size
    log.info(
        "%s, %s: %s of %s parameters trained on %s; %s, %d steps of %d × %d",
        config.stage, config.method.finetuning_type, f"{trained:,}", f"{total:,}",
        engine.backend.device if ranks == 1 else f"{ranks} processes ({engine.backend.name})",
        _amount(plan), plan.total_steps, plan.batch_size, plan.accumulation,
    )  # fmt: skip


def _amount(plan: StepPlan | StreamPlan) -> str:
    if isinstance(plan, StreamPlan):
        return "streamed rows"
    return f"{plan.num_examples} examples" + (f" in {plan.num_units} blocks" if plan.packed else "")
