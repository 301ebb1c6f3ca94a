"""Killed at any moment and started again, a run comes to the end it would have come to: bit for bit.

``python -m tests.trainkit.kill.trials --kills 200`` does more of the same.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.trainkit.kill.chain import KINDS, Chain, chain, differences, undisturbed

KILLS = 7  # of each kind


@pytest.fixture(scope="module")
def chains(model_folder: Path, data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Chain]:
    """A run of each kind, killed again and again until it ended; two at a time."""
    root = tmp_path_factory.mktemp("kills")

    def one(kind: str) -> Chain:
        whole = undisturbed(kind, model_folder, data_folder, root / kind / "whole")
        return chain(kind, model_folder, data_folder, root / kind / "parts", whole, seed=len(kind), kills=KILLS)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(KINDS, pool.map(one, KINDS), strict=True))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_ends_as_if_nothing_had_been(kind: str, chains: dict[str, Chain]) -> None:
    assert chains[kind].differences == []
    assert len(chains[kind].deaths) == KILLS


@pytest.mark.timeout(600)
def test_kills_met_steps_and_saves_alike(chains: dict[str, Chain]) -> None:
    deaths = [death for found in chains.values() for death in found.deaths]
    assert len(deaths) >= 30
    assert sum(death.endswith("in saver") for death in deaths) >= 5
    assert sum(death.startswith("after") for death in deaths) >= 5


def test_a_difference_would_be_seen(tmp_path: Path) -> None:
    for name, last in (("one", 0.5), ("other", 0.5000001)):
        (tmp_path / name).mkdir()
        save_file({"w": torch.tensor([1.0, last])}, tmp_path / name / "model.safetensors")
        (tmp_path / name / "trainer_log.jsonl").write_text(json.dumps({"current_steps": 1, "loss": last}) + "\n")
        (tmp_path / name / "train_results.json").write_text(json.dumps({"train_loss": last}))
    assert load_file(tmp_path / "one" / "model.safetensors")["w"][0] == 1
    found = differences(tmp_path / "one", tmp_path / "other")
    assert [each.partition(":")[0] for each in found] == [
        "content of model.safetensors",
        "trainer_log.jsonl",
        "train_loss",
    ]
    assert differences(tmp_path / "one", tmp_path / "one") == []
