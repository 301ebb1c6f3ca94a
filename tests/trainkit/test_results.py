"""What stands beside the weights: results that add up, and the settings without secrets."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import yaml

from trainkit.config import load_config
from trainkit.results import write_config, write_results


def test_all_results_gathers_what_the_splits_wrote(tmp_path: Path) -> None:
    write_results(tmp_path, "train", {"train_loss": 1.0, "epoch": 1.0})
    write_results(tmp_path, "eval", {"eval_loss": 2.0, "epoch": 2.0})
    assert json.loads((tmp_path / "all_results.json").read_text()) == {
        "epoch": 2.0,
        "eval_loss": 2.0,
        "train_loss": 1.0,
    }
    assert json.loads((tmp_path / "train_results.json").read_text()) == {"epoch": 1.0, "train_loss": 1.0}


def test_the_settings_are_written_without_secrets(tmp_path: Path) -> None:
    config = load_config({"model_name_or_path": "m", "learning_rate": 0.5})
    optim = dataclasses.replace(config.optim, lr_scheduler_kwargs={"api_key": "do not tell", "power": 2})
    write_config(tmp_path, dataclasses.replace(config, optim=optim))
    held = yaml.safe_load((tmp_path / "training_args.yaml").read_text())
    assert held["learning_rate"] == 0.5
    assert held["lr_scheduler_kwargs"] == {"api_key": "…", "power": 2}
