"""Whose the output folder is: a new run's, an unfinished run's to go on with, or somebody else's."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.errors import UsageError
from trainkit.claim import begin, claim_folder, hold, read_record
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


def test_a_folder_is_free_again_after_kill_9(tmp_path: Path) -> None:
    """The system lets go of a lock whose process has ended, whatever file is left behind."""
    code = (
        "import os, pathlib, signal, sys\n"
        "from trainkit.claim import hold\n"
        "with hold(pathlib.Path(sys.argv[1])):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert (tmp_path / "out" / ".run.lock").exists()
    with hold(tmp_path / "out"):
        assert read_record(tmp_path / "out") is None


def test_a_second_run_is_refused_before_anything_heavy_is_loaded(
    config_file: Run, trainkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config_file()
    monkeypatch.setattr("trainkit.start.need_training_packages", lambda: pytest.fail("went on"))
    with hold(tmp_path / "out"):
        ran = trainkit("run", path)
    assert ran.code == 2
    assert f"{tmp_path}/out: another run is at work in this folder\n  Wait for it, or choose another" in ran.err


def test_an_output_folder_that_is_a_file_is_told_with_the_other_faults(
    config_file: Run, trainkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainkit.start.need_training_packages", lambda: pytest.fail("went on"))
    (tmp_path / "out").write_text("a file")
    ran = trainkit("run", config_file(dataset="nowhere"))
    assert ran.code == 2
    assert "2 faults" in ran.err
    assert f"{tmp_path}/out: is a file, and a folder is needed" in ran.err


def test_a_read_only_disk_is_told_before_anything_is_loaded(
    config_file: Run, trainkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainkit.start.need_training_packages", lambda: pytest.fail("went on"))
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    ran = trainkit("run", config_file())
    assert ran.code == 2
    assert f"{tmp_path}: no permission to write here" in ran.err


def test_a_disk_that_only_the_write_shows_to_be_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "mkdir", read_only)
    with pytest.raises(UsageError, match="cannot be written to: the file system is read-only"), hold(tmp_path / "out"):
        pass


def test_a_file_system_without_locks_is_worked_on_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("trainkit.claim.FileLock.acquire", no_locks)
    with caplog.at_level(logging.WARNING, "tunekit"), hold(tmp_path / "out"):
        pass
    assert "this file system has no locks, so nothing keeps a second run out of the folder" in caplog.text


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
