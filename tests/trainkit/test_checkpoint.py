"""Stopping costs nothing: a run that was killed, stopped or met a full disk goes on to the same end, bit for bit."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from registry.errors import UsageError
from trainkit.checkpoint import (
    Checkpoint,
    check_trained,
    list_checkpoints,
    load_optimizer_tensors,
    load_random_state,
    newest_checkpoint,
    open_checkpoint,
    prune,
)  # fmt: skip

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
    assert f'passed over: {folder}/checkpoint-5: "model.safetensors" is missing or damaged: it has ' in ran.err
    assert f"passed over: {folder}/checkpoint-4: no checkpoint of ours: it has no checkpoint.json" in ran.err
    assert (
        f'passed over: {folder}/checkpoint-3: "optimizer.safetensors" is missing or damaged: its SHA-256 is another'
        in ran.err
    )
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


@pytest.mark.parametrize(
    ("trained", "reason"),
    [
        ({"model.a": [2, 3], "model.b": [4]}, '"model.a" is [2, 2] there and [2, 3] here'),
        ({"model.a": [2, 2], "model.c": [4]}, 'it has no parameter "model.c" (2 there, 2 here)'),
        ({"model.a": [2, 2]}, '"model.b" is trained there and not here'),
    ],
)
def test_other_trained_parameters_are_told_by_name(trained: dict[str, list[int]], reason: str, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, 1, {}, {"model.a": [2, 2], "model.b": [4]})
    check_trained(checkpoint, checkpoint.trained)
    with pytest.raises(UsageError) as raised:
        check_trained(checkpoint, trained)
    assert reason in str(raised.value)


def test_a_checkpoint_of_the_first_format_is_still_read(tmp_path: Path) -> None:
    """Written by one process, with the names of the model's own parameters."""
    folder = tmp_path / "checkpoint-4"
    folder.mkdir()
    save_file({"layer.weight|exp_avg": torch.ones(2)}, folder / "optimizer.safetensors")
    save_file({"cpu": torch.zeros(3, dtype=torch.uint8)}, folder / "random_state.safetensors")
    (folder / "trainer_state.json").write_text('{"global_step": 4}')
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in folder.iterdir()
    }
    (folder / "checkpoint.json").write_text(json.dumps({"format_version": 1, "step": 4, "files": files}))
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert load_optimizer_tensors(found).keys() == {"model.layer.weight|exp_avg"}
    assert load_random_state(found).keys() == {"0|cpu"}
    check_trained(found, {"model.layer.weight": [2]})  # it does not say what was trained


def test_a_format_of_the_future_is_refused_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.json").write_text('{"format_version": 3, "step": 1, "files": {}}')
    with pytest.raises(UsageError, match="checkpoint format 3 is not read by this version"):
        open_checkpoint(tmp_path)


def test_a_pruned_checkpoint_is_never_seen_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        (tmp_path / f"checkpoint-{step}").mkdir()
    seen: list[list[str]] = []
    monkeypatch.setattr(
        "trainkit.checkpoint.shutil.rmtree", lambda _: seen.append([p.name for p in list_checkpoints(tmp_path)])
    )
    prune(tmp_path, 1)
    assert seen == [["checkpoint-2"]]


def test_checkpoints_without_optimizer_cannot_be_gone_on_with(config_file: Run, trainkit: Run, tmp_path: Path) -> None:
    path = config_file(max_steps=2, save_strategy="steps", save_steps=1, save_only_model=True)
    assert trainkit("run", path).code == 0
    ran = trainkit("run", path, "output_dir=other", "resume_from_checkpoint=out/checkpoint-1")
    assert ran.code == 2
    assert "holds no optimizer state (save_only_model), so it cannot be resumed" in ran.err


def full_disk(monkeypatch: pytest.MonkeyPatch, *, during: Callable[[str], bool]) -> None:
    """Every tensor file in a folder whose name ``during`` takes fails as on a full disk, half-written."""
    import trainkit.snapshot

    write = trainkit.snapshot.write_tensors

    def raises(path: Path, *arguments: Any, **options: Any) -> Any:
        if during(path.parent.name):
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, *arguments, **options)

    monkeypatch.setattr(trainkit.snapshot, "write_tensors", raises)


def test_a_full_disk_keeps_the_last_checkpoint_and_the_run(
    config_file: Run, trainkit: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert trainkit("run", config_file(), "output_dir=whole").code == 0
    folder, path = tmp_path / "out", config_file(save_strategy="steps", save_steps=2)
    with monkeypatch.context() as patch:
        full_disk(patch, during=lambda name: name.startswith((".checkpoint-6", ".checkpoint-8")))
        ran = trainkit("run", path)
    assert ran.code == 0
    lost = "checkpoint-6 could not be saved: the disk is full; training goes on (the last whole one: checkpoint-4)"
    assert ran.err.count("could not be saved") == 1  # the same fault at step 8 is not told again
    assert lost in ran.err
    assert "checkpoints can be saved again: checkpoint-10 is" in ran.err
    assert sorted(p.name for p in folder.glob("*checkpoint*")) == ["checkpoint-10", "checkpoint-2", "checkpoint-4"]
    assert_same_weights(tmp_path / "whole", folder)


def test_a_full_disk_at_the_end_stops_the_run_which_goes_on_later(
    config_file: Run, trainkit: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert trainkit("run", config_file(), "output_dir=whole").code == 0
    folder, path = tmp_path / "out", config_file(save_strategy="steps", save_steps=5)
    with monkeypatch.context() as patch:
        full_disk(patch, during=lambda name: name.startswith(".weights"))
        ran = trainkit("run", path)
    assert ran.code == 3
    assert "the model could not be saved: the disk is full\n  Mend that and run the same command again" in ran.err
    assert not (folder / "model.safetensors").exists()
    again = trainkit("run", path)
    assert (again.code, "after step 10 of 10" in again.err) == (0, True)
    assert_same_weights(tmp_path / "whole", folder)


def test_a_checkpoint_of_another_model_is_told_by_its_tensor(
    config_file: Run, trainkit: Run, model_folder: Path, data_folder: Path, tmp_path: Path
) -> None:
    from trainkit.init import init_model
    from trainkit.init_plan import plan_model

    plan = plan_model(
        "qwen2", "tiny", vocab_size=400, hidden_size=48, layers=2, heads=2, max_length=128, template="qwen3_nothink"
    )
    rows = [str(data_folder / name) for name in ("questions.jsonl", "pairs.jsonl", "pages.txt")]
    init_model(tmp_path / "wider", rows, plan, seed=1, force=False)
    for kind, tensor in (("full", "model.embed_tokens.weight"), ("lora", "lora_")):
        keys = {"finetuning_type": kind, "max_steps": 2, "save_strategy": "steps", "save_steps": 1}
        assert trainkit("run", config_file(**keys, output_dir=str(tmp_path / kind))).code == 0
        ran = trainkit(
            "run", config_file(**keys, output_dir=str(tmp_path / "new"), model_name_or_path=str(tmp_path / "wider")),
            f"resume_from_checkpoint={kind}/checkpoint-1",
        )  # fmt: skip
        assert ran.code == 2
        assert f"{kind}/checkpoint-1: it is of another model:" in ran.err
        assert tensor in ran.err
        assert re.search(r"is \[\d+, \d+\] (there and|there, for a layer of) \[\d+, \d+\] in the base", ran.err)
        assert not (tmp_path / "new").exists()


def test_an_adapter_is_no_checkpoint_of_a_full_run(config_file: Run, trainkit: Run, tmp_path: Path) -> None:
    keys = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    assert trainkit("run", config_file(**keys, finetuning_type="lora")).code == 0
    ran = trainkit("run", config_file(**keys), "output_dir=other", "resume_from_checkpoint=out/checkpoint-1")
    assert ran.code == 2
    assert "holds an adapter, which finetuning_type: full cannot go on with" in ran.err


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
