"""Stopping costs nothing: a run that was killed, stopped or met a full disk goes on to the same end, bit for bit."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

Run = Callable[..., Any]
KINDS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"finetuning_type": "lora", "lora_dropout": 0.1, "learning_rate": 0.01},
    "dpo": {"stage": "dpo", "dataset": "pairs", "finetuning_type": "lora", "lora_dropout": 0.1, "learning_rate": 0.01},
}
CURVE = ("current_steps", "loss", "grad_norm", "lr", "reward", "accuracy", "epoch", "total_tokens")


def curve(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What of a log must be the same whenever it was written: all but times."""
    return [{key: line[key] for key in CURVE if key in line} for line in log]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = folder.glob("*model.safetensors")
    return load_file(path)


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("kind", ["full", "lora", "dpo"])
def test_ten_steps_equal_five_a_kill_and_five(
    kind: str, config_file: Run, trainkit: Run, launch: Run, tmp_path: Path, trainer_log: Run
) -> None:
    whole = config_file(name="whole.yaml", **KINDS[kind], output_dir="whole", save_strategy="steps", save_steps=5)
    assert trainkit("run", whole).code == 0
    folder = tmp_path / "parts"
    parts = config_file(
        name="parts.yaml",
        **KINDS[kind],
        output_dir=str(folder),
        save_strategy="steps",
        save_steps=5,
        overwrite_output_dir=True,
    )
    running = launch("run", parts, pause_s=0.15)
    running.wait_for(lambda: (folder / "checkpoint-5").is_dir() and len(trainer_log(folder)) > 5)
    running.signal(signal.SIGKILL)
    assert running.ended().code == -signal.SIGKILL
    assert not (folder / "checkpoint-10").exists()

    ran = trainkit("run", parts)
    assert ran.code == 0
    assert f"going on with the unfinished run in {folder}, after step 5 of 10" in ran.err
    one, other = trainer_log(tmp_path / "whole"), trainer_log(folder)
    assert [line["current_steps"] for line in other] == list(range(1, 11))  # none twice, none missing
    assert curve(other) == curve(one)
    assert_same_weights(tmp_path / "whole", folder)


@pytest.mark.parametrize("saving", [{"save_strategy": "steps", "save_steps": 100}, {"save_strategy": "no"}])
def test_ctrl_c_finishes_the_step_saves_it_and_the_next_run_goes_on(
    saving: dict[str, Any], config_file: Run, trainkit: Run, launch: Run, tmp_path: Path, trainer_log: Run
) -> None:
    keys = {**KINDS["lora"], "logging_steps": 3, **saving}  # stopped in the middle of a log interval, or at its end
    trainkit("run", config_file(**keys), "output_dir=whole")
    folder, parts = tmp_path / "out", config_file(**keys)
    running = launch("run", parts, pause_s=0.1)
    running.wait_for_step()
    running.wait_for(lambda: running.stderr.read_text().count("(about to step)") == 5)
    running.signal(signal.SIGINT)
    ended = running.ended()
    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert "stopping: this step is finished and saved first" in ended.err
    (saved,) = (p.name for p in folder.glob("checkpoint-*"))
    done = saved.removeprefix("checkpoint-")
    assert f"stopped after step {done} of 10; {saved} is saved\n  Run the same command again to go on." in ended.err

    assert f"after step {done} of 10" in trainkit("run", parts).err
    assert curve(trainer_log(folder)) == curve(trainer_log(tmp_path / "whole"))
    assert_same_weights(tmp_path / "whole", folder)


def test_a_second_ctrl_c_leaves_at_once(config_file: Run, launch: Run, tmp_path: Path) -> None:
    running = launch("run", config_file(), pause_s=1.0)
    running.wait_for_step()
    running.signal(signal.SIGTERM)
    running.wait_for(lambda: "stopping:" in running.stderr.read_text())
    running.signal(signal.SIGINT)
    ended = running.ended()
    assert (ended.code, "Traceback" in ended.err) == (130, False)
    assert list((tmp_path / "out").rglob("*.safetensors")) == []


def test_a_torn_checkpoint_is_passed_over_and_the_one_before_is_used(
    config_file: Run, trainkit: Run, stop_after_five: Run, tmp_path: Path, trainer_log: Run
) -> None:
    assert trainkit("run", config_file(), "output_dir=whole").code == 0
    folder, path = tmp_path / "out", config_file(save_strategy="steps", save_steps=1)
    stop_after_five(path)
    torn = folder / "checkpoint-5" / "model.safetensors"
    torn.write_bytes(torn.read_bytes()[:-100])
    (folder / "checkpoint-4" / "checkpoint.json").unlink()
    optimizer = folder / "checkpoint-3" / "optimizer.safetensors"
    changed = bytearray(optimizer.read_bytes())
    changed[-1] ^= 1
    optimizer.write_bytes(changed)
    ran = trainkit("run", path)
    assert ran.code == 0
    assert f'passed over: {folder}/checkpoint-5: "model.safetensors" is missing or damaged' in ran.err
    assert f"passed over: {folder}/checkpoint-4: no checkpoint of ours: it has no checkpoint.json" in ran.err
    assert f'passed over: {folder}/checkpoint-3: "optimizer.safetensors" is missing or damaged' in ran.err
    assert "after step 2 of 10" in ran.err
    assert curve(trainer_log(folder)) == curve(trainer_log(tmp_path / "whole"))
    assert_same_weights(tmp_path / "whole", folder)


def test_a_lost_reference_is_not_measured_anew_by_a_trained_model(
    config_file: Run, trainkit: Run, stop_after_five: Run, tmp_path: Path
) -> None:
    path = config_file(**KINDS["dpo"], save_strategy="steps", save_steps=5)
    stop_after_five(path)
    (tmp_path / "out" / "reference.safetensors").unlink()
    ran = trainkit("run", path)
    assert ran.code == 2
    assert "reference.safetensors of the unfinished run is gone\n  Add --fresh to start over." in ran.err


def test_a_named_checkpoint_is_gone_on_from_in_another_folder(
    config_file: Run, trainkit: Run, tmp_path: Path, trainer_log: Run
) -> None:
    path = config_file(save_strategy="steps", save_steps=4)
    assert trainkit("run", path).code == 0
    assert trainkit("run", path, "output_dir=other", "resume_from_checkpoint=out/checkpoint-4").code == 0
    assert [line["current_steps"] for line in trainer_log(tmp_path / "other")] == [5, 6, 7, 8, 9, 10]
    assert_same_weights(tmp_path / "out", tmp_path / "other")


def test_checkpoints_without_optimizer_cannot_be_gone_on_with(config_file: Run, trainkit: Run, tmp_path: Path) -> None:
    path = config_file(max_steps=2, save_strategy="steps", save_steps=1, save_only_model=True)
    assert trainkit("run", path).code == 0
    ran = trainkit("run", path, "output_dir=other", "resume_from_checkpoint=out/checkpoint-1")
    assert ran.code == 2
    assert "holds no optimizer state (save_only_model), so it cannot be resumed" in ran.err


def full_disk(name: str, monkeypatch: pytest.MonkeyPatch, *, after: int = 0) -> None:
    """``trainkit.checkpoint.<name>`` raises what a full disk raises, once it was called ``after`` times."""
    import trainkit.checkpoint

    write, count = getattr(trainkit.checkpoint, name), [0]

    def raises(*arguments: Any, **options: Any) -> Any:
        count[0] += 1
        if count[0] > after:
            raise OSError(28, "No space left on device")
        return write(*arguments, **options)

    monkeypatch.setattr(trainkit.checkpoint, name, raises)


def test_a_full_disk_while_saving_keeps_the_checkpoint_before(
    config_file: Run, trainkit: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trainer_log: Run
) -> None:
    assert trainkit("run", config_file(), "output_dir=whole").code == 0
    folder, path = tmp_path / "out", config_file(save_strategy="steps", save_steps=5)
    with monkeypatch.context() as patch:
        full_disk("save_file", patch, after=2)  # optimizer and random state of checkpoint-5 fit
        ran = trainkit("run", path)
    assert ran.code == 3
    assert "the disk is full while saving a checkpoint\n  Free some space and run the same command again" in ran.err
    assert [p.name for p in folder.glob("*checkpoint*")] == ["checkpoint-5"]
    again = trainkit("run", path)
    assert (again.code, "after step 5 of 10" in again.err) == (0, True)
    assert_same_weights(tmp_path / "whole", folder)


def test_a_full_disk_while_the_model_is_saved_leaves_no_half_model(
    config_file: Run, trainkit: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import transformers

    def torn(self: Any, folder: Path, **options: Any) -> None:
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    path = config_file(max_steps=2)
    with monkeypatch.context() as patch:
        patch.setattr(transformers.PreTrainedModel, "save_pretrained", torn)
        ran = trainkit("run", path)
    assert ran.code == 3
    assert not (tmp_path / "out" / "model.safetensors").exists()
    assert trainkit("run", path).code == 0
