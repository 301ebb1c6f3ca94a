"""SwanLab on this machine only: its files read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.trainkit.reports.conftest import no_secret_in

pytest.importorskip("swanlab")


def test_numbers_and_config_lie_in_the_runs_folder(told: Callable[..., None], tmp_path: Path) -> None:
    told("swanlab", 1, 2)
    run_id = json.loads((tmp_path / "out" / "reports.json").read_text())["swanlab"]
    (folder,) = (tmp_path / "out" / "swanlog").glob(f"run-*-{run_id}")
    lines = [json.loads(line) for path in folder.glob("logs/*/*.log") for line in path.read_text().splitlines()]
    assert len(lines) == 4, "two numbers at two steps"
    config = yaml.safe_load((folder / "files" / "config.yaml").read_text())
    assert config["learning_rate"]["value"] == 0.001
    assert no_secret_in(folder)
