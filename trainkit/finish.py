"""The end of a run: weights, results, curves and card into the output folder."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from registry.atomic import write_json
from trainkit.card import sources_of, write_card
from trainkit.checkpoint import is_whole
from trainkit.claim import Claim
from trainkit.config import RunConfig
from trainkit.data.feed import Data
from trainkit.data.stream_feed import StreamData
from trainkit.loop import Training
from trainkit.methods.pissa import convert
from trainkit.metrics import RunLog
from trainkit.plots import plot_curves
from trainkit.results import trainer_state, write_results
from trainkit.snapshot import Snapshot, publish_weights

log = logging.getLogger("tunekit")


def save_all(
    config: RunConfig,
    claim: Claim,
    data: Data | StreamData,
    snapshot: Snapshot | None,
    run_log: RunLog,
    training: Training,
    done: int,
    *,
    best_step: int | None = None,
) -> dict[str, Any]:
    """Everything that a finished run leaves; returns the numbers of ``train_results.json``. All ranks; rank 0 writes.

    ``snapshot`` holds the final weights (rank 0's). ``done`` is the number of steps that were taken, ``best_step`` the one
    whose checkpoint is to be the model, None for the last.
    """
    folder, plan, first = claim.folder, data.plan, training.backend.rank == 0
    if first and snapshot is not None:
        publish_weights(folder, snapshot if best_step in (None, done) else best_of(folder, snapshot, best_step))
        if config.method.pissa_convert:
            convert(folder)
    numbers = run_log.summary(plan, done)
    if first:
        write_results(folder, "train", numbers)
    if training.evaluate and (config.do_eval or config.loop.eval_strategy != "no"):
        found = training.evaluate(done).numbers
        if first:
            write_results(folder, "eval", {**found, "epoch": numbers["epoch"]})
        numbers |= found
    if not first:
        return numbers
    write_json(folder / "trainer_state.json", trainer_state(done, plan.total_steps, plan.epoch_after(done), run_log))
    if config.plot_loss:
        plot_curves(folder, run_log.history)
    examples = data.examples
    write_card(
        folder, config, numbers, sources_of(examples), rows_in=examples.ledger.rows_in, num_train=len(examples.train),
        num_eval=len(examples.eval),
    )  # fmt: skip
    return numbers


def best_of(folder: Path, last: Snapshot, step: int) -> Snapshot:
    """The weights of ``checkpoint-<step>`` in place of the last ones; these where that checkpoint could not be written."""
    from safetensors.torch import load_file

    found = folder / f"checkpoint-{step}"
    if not is_whole(found):
        log.warning("the best checkpoint, %s, is not whole: the last weights are kept", found)
        return last
    weights = {name: load_file(found / name) for name in last.weights}
    log.info("the model is that of step %d, the best by evaluation", step)
    return replace(last, step=step, weights=weights)
