"""Whose the output folder is: a new run's, an unfinished run's to go on with, or somebody else's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.errors import UsageError
from trainkit.claim import begin, claim_folder, hold
from trainkit.config import load_config

Run = Callable[..., Any]


def test_fresh_starts_an_unfinished_run_over(
    config_file: Run, trainkit: Run, stop_after_five: Run, tmp_path: Path
) -> None:
    path = config_file(save_strategy="steps", save_steps=5)
    stop_after_five(path)
    ran = trainkit("run", path, "--fresh")
    assert ran.code == 0
    assert "going on" not in ran.err


def test_without_a_whole_checkpoint_an_unfinished_run_starts_over_and_says_so(
    config_file: Run, trainkit: Run, stop_after_five: Run
) -> None:
    path = config_file()
    stop_after_five(path)
    ran = trainkit("run", path)
    assert ran.code == 0
    assert "an unfinished run of this config is here, without a whole checkpoint; it starts over" in ran.err


def test_changed_data_is_not_gone_on_with(
    config_file: Run, trainkit: Run, stop_after_five: Run, tmp_path: Path
) -> None:
    rows = [{"instruction": f"row {n}", "output": f"answer {n}"} for n in range(9)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "dataset_info.json").write_text('{"mine": {"file_name": "rows.jsonl"}}')
    path = config_file(dataset="mine", dataset_dir=str(tmp_path), save_strategy="steps", save_steps=5)
    stop_after_five(path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
    ran = trainkit("run", path)
    assert ran.code == 2
    assert "the data or the base model has changed since the run of this checkpoint began\n  Add --fresh" in ran.err
    assert trainkit("run", path, "--fresh").code == 0


def test_a_finished_run_is_not_trained_again_unless_asked(config_file: Run, trainkit: Run) -> None:
    path = config_file(max_steps=1)
    assert trainkit("run", path).code == 0
    ran = trainkit("run", path)
    assert ran.code == 2
    assert "a finished run of this very config is here\n  Choose another output_dir, or add --fresh" in ran.err
    assert trainkit("run", path, "--fresh").code == 0
    assert trainkit("run", path, "overwrite_output_dir=true").code == 0


def test_a_run_of_another_config_is_refused_with_what_differs(config_file: Run, trainkit: Run) -> None:
    assert trainkit("run", config_file(max_steps=1)).code == 0
    ran = trainkit("run", config_file(max_steps=1, learning_rate=0.5, lora_rank=4))
    assert ran.code == 2
    assert "a run of another config is here; what differs: " in ran.err
    assert "learning_rate: 0.001 → 0.5" in ran.err
    assert "lora_rank: 8 → 4" in ran.err


def test_a_folder_of_somebody_else_is_left_alone(config_file: Run, trainkit: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("do not touch")
    ran = trainkit("run", config_file())
    assert ran.code == 2
    assert "the output folder is not empty: thesis.txt\n  Choose another output_dir" in ran.err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_what_a_killed_run_was_writing_is_cleared_away(
    config_file: Run, trainkit: Run, stop_after_five: Run, tmp_path: Path
) -> None:
    path = config_file(save_strategy="steps", save_steps=5)
    stop_after_five(path)
    leftover = tmp_path / "out" / ".checkpoint-10.tmp-1-abc"
    leftover.mkdir()
    (leftover / "model.safetensors").write_bytes(b"half")
    assert trainkit("run", path).code == 0
    assert not leftover.exists()


def test_a_damaged_record_is_not_heeded(config_file: Run, trainkit: Run, tmp_path: Path) -> None:
    assert trainkit("run", config_file(max_steps=1)).code == 0
    (tmp_path / "out" / "run.json").write_text("{")
    ran = trainkit("run", config_file(max_steps=1))
    assert ran.code == 2
    assert "run.json is damaged and not heeded" in ran.err
    assert "the output folder is not empty" in ran.err


def test_the_adapter_of_an_earlier_run_does_not_stay_beside_a_full_model(
    config_file: Run, trainkit: Run, tmp_path: Path
) -> None:
    keys = {"max_steps": 1, "overwrite_output_dir": True}
    assert trainkit("run", config_file(**keys, finetuning_type="lora")).code == 0
    assert trainkit("run", config_file(**keys)).code == 0
    held = {p.name for p in (tmp_path / "out").iterdir()}
    assert "model.safetensors" in held
    assert not {"adapter_config.json", "adapter_model.safetensors"} & held


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with hold(tmp_path / "out"), pytest.raises(UsageError, match="another run is at work"), hold(tmp_path / "out"):
        pass
    with hold(tmp_path / "out"):
        pass  # and it is free again


def test_starting_over_leaves_nothing_of_the_older_run(settings: Run, tmp_path: Path) -> None:
    config = load_config(settings(output_dir=str(tmp_path / "out"), overwrite_output_dir=True))
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("eval_results.json", "training_eval_loss.png", ".trainer_log.jsonl.tmp-1-ab", "notes.txt"):
        (folder / name).write_text("old")
    begin(claim_folder(config, fresh=False), config, "digest", 1)
    assert sorted(p.name for p in folder.iterdir()) == ["notes.txt", "run.json"]


def test_a_run_does_not_overwrite_the_model_it_reads(settings: Run, model_folder: Path) -> None:
    config = load_config(settings(output_dir=str(model_folder), overwrite_output_dir=True))
    with pytest.raises(UsageError, match="lies in its own output folder"):
        claim_folder(config, fresh=True)


def test_checkpoints_whose_run_cannot_be_told_are_not_cleared_unasked(settings: Run, tmp_path: Path) -> None:
    config = load_config(settings(output_dir=str(tmp_path / "out"), overwrite_output_dir=True))
    (tmp_path / "out" / "checkpoint-5").mkdir(parents=True)
    (tmp_path / "out" / "run.json").write_text("{")
    with pytest.raises(UsageError, match=r"run\.json is damaged"):
        claim_folder(config, fresh=False)
    assert claim_folder(config, fresh=True).checkpoint is None
