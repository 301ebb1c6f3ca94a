"""Going on from a named checkpoint: its own data, its own reference, and nothing of anybody else's overwritten."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def two_steps(trainkit: Run, config_file: Run, tmp_path: Path) -> Path:
    """A run of two of dpo's steps; returns its checkpoint."""
    path = config_file(
        stage="dpo", dataset="pairs", max_steps=2, per_device_train_batch_size=2, save_strategy="steps", save_steps=2
    )
    ran = trainkit("run", path)
    assert ran.code == 0, ran.err
    return tmp_path / "out" / "checkpoint-2"


def test_pairs_whose_reference_was_never_measured_are_not_trained_on(
    trainkit: Run, config_file: Run, two_steps: Path, tmp_path: Path
) -> None:
    longer = config_file(
        stage="dpo", dataset="pairs", max_steps=4, per_device_train_batch_size=2,
        output_dir=str(tmp_path / "more"), resume_from_checkpoint=str(two_steps),
    )  # fmt: skip
    ran = trainkit("run", longer)
    assert ran.code == 2
    assert "the reference was measured for fewer steps than this run is to have" in ran.err


def test_a_named_checkpoint_is_no_leave_to_overwrite_a_folder(
    trainkit: Run, config_file: Run, two_steps: Path, tmp_path: Path
) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "model.safetensors").write_text("precious")
    keys = {"stage": "dpo", "dataset": "pairs", "max_steps": 2, "per_device_train_batch_size": 2}
    ran = trainkit(
        "run", config_file(**keys, output_dir=str(tmp_path / "theirs"), resume_from_checkpoint=str(two_steps))
    )
    assert ran.code == 2
    assert "the output folder is not empty" in ran.err
    assert (tmp_path / "theirs" / "model.safetensors").read_text() == "precious"


def test_true_without_a_checkpoint_is_an_error(trainkit: Run, config_file: Run) -> None:
    ran = trainkit("run", config_file(resume_from_checkpoint=True))
    assert ran.code == 2
    assert "there is no checkpoint of this config to go on from" in ran.err


def test_the_saved_model_stops_where_its_tokenizer_does(trainkit: Run, config_file: Run, tmp_path: Path) -> None:
    """A base whose config names another end of sequence than the template: both files are brought in line."""
    base = config_file(max_steps=1)
    assert trainkit("run", base).code == 0
    folder = tmp_path / "out"
    for name in ("config.json", "generation_config.json"):
        (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), "eos_token_id": 0}))
    again = config_file(max_steps=1, model_name_or_path=str(folder), output_dir=str(tmp_path / "again"))
    assert trainkit("run", again).code == 0
    from registry.tokenizer import open_tokenizer

    tokenizer, _ = open_tokenizer(tmp_path / "again", None)
    saved = {
        n: json.loads((tmp_path / "again" / n).read_text())["eos_token_id"]
        for n in ("config.json", "generation_config.json")
    }
    assert saved == {"config.json": tokenizer.eos_id, "generation_config.json": [tokenizer.eos_id, 0]}


def test_a_json_config_may_be_indented_with_tabs(trainkit: Run, config_file: Run, tmp_path: Path) -> None:
    import yaml

    keys = yaml.safe_load(config_file(max_steps=1).read_text())
    (tmp_path / "run.json").write_text(json.dumps(keys, indent="\t"))
    assert trainkit("run", tmp_path / "run.json").code == 0
    (tmp_path / "twice.json").write_text('{"stage": "sft",\n\t"stage": "pt"}')
    assert '"stage" is there twice' in trainkit("run", tmp_path / "twice.json").err
