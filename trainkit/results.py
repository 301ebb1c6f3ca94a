"""What stands in the output folder beside the weights: results, state, resolved config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from registry.atomic import atomic_file, write_json
from registry.secrets import masked
from trainkit.config import RunConfig
from trainkit.metrics import RunLog


def write_results(folder: Path, split: str, numbers: Mapping[str, Any]) -> None:
    """``<split>_results.json``, and the same numbers merged into ``all_results.json``, as the Trainer lays them out."""
    ordered = dict(sorted(numbers.items()))
    write_json(folder / f"{split}_results.json", ordered)
    path = folder / "all_results.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    write_json(path, dict(sorted({**known, **ordered}.items())))


def trainer_state(step: int, total_steps: int, epoch: float, run_log: RunLog) -> dict[str, Any]:
    """Hugging Face's ``trainer_state.json``, plus the time that the run has taken so far."""
    return {
        "epoch": epoch,
        "global_step": step,
        "max_steps": total_steps,
        "num_input_tokens_seen": run_log.tokens,
        "train_runtime": round(run_log.seconds, 3),
        "loss_sum": run_log.loss_sum,
        "first_loss": run_log.first_loss,
        "skipped_steps": run_log.skipped,
        "unlogged": list(run_log.unlogged),
        "is_local_process_zero": True,
        "is_world_process_zero": True,
        "log_history": list(run_log.history),
    }


def write_config(folder: Path, config: RunConfig) -> None:
    """``training_args.yaml``: every key with the value that held, secrets masked."""
    with atomic_file(folder / "training_args.yaml") as handle:
        handle.write(yaml.safe_dump(masked(config.flat()), allow_unicode=True, sort_keys=True).encode())
