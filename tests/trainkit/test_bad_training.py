"""What can be wrong with a training run, as a user meets it: an exit code, a reason with its place and way out, and nothing lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from registry.errors import UsageError
from tests.trainkit.conftest import QUESTIONS, read_log
from trainkit.objective import Objective
from trainkit.precision import check_bf16, check_capability

Run = Callable[..., Any]
KEPT = "the notes of somebody"


@pytest.fixture
def refused(trainkit: Run, config_file: Run, tmp_path: Path) -> Callable[..., str]:
    """``refused(stage="dpo")``: what ``trainkit run`` says as it ends with 2, and leaves an output folder as it was."""

    def told(**changes: Any) -> str:
        out = Path(changes.get("output_dir", tmp_path / "out"))
        before = held(out)
        ran = trainkit("run", config_file(**changes))
        assert ran.code == 2, ran.err
        assert held(out) == before
        return str(ran.err)

    return told


def held(folder: Path) -> dict[str, bytes]:
    """The files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Path:
    """A model of another shape, with a tokenizer of fewer words."""
    from trainkit.init import init_model
    from trainkit.init_plan import plan_model

    folder = tmp_path_factory.mktemp("other") / "other"
    plan = plan_model(
        "qwen2", "tiny", vocab_size=320, hidden_size=16, layers=1, heads=2, max_length=128, template="qwen3_nothink"
    )
    init_model(folder, [str(data_folder / "questions.jsonl")], plan, seed=2, force=False)
    return folder


@pytest.fixture
def judged(data_folder: Path, tmp_path: Path) -> dict[str, str]:
    """The keys of a dataset of judged answers."""
    rows = [{**row, "good": number % 2 == 0} for number, row in enumerate(QUESTIONS)]
    (tmp_path / "judged.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"prompt": "instruction", "response": "output", "kto_tag": "good"}
    known = {"judged": {"file_name": "judged.jsonl", "columns": columns}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(known))
    return {"dataset": "judged", "dataset_dir": str(tmp_path)}


# --------------------------------------------------------------------------------------------------------- the config


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            {"stage": "dpo"},
            'dataset "questions" holds chat rows, and stage dpo trains on preference pairs\n    Set stage: sft',
        ),
        (
            {"stage": "rm"},
            'dataset "questions" holds chat rows, and stage rm trains on preference pairs\n    Set stage: sft',
        ),
        (
            {"stage": "kto", "dataset": "pairs"},
            'dataset "pairs" holds preference pairs, and stage kto trains on judged answers\n    Set stage: dpo',
        ),
        ({"stage": "pt", "dataset": "pairs"}, 'dataset "pairs" holds preference pairs, and stage pt trains on plain text'),
        ({"finetuning_type": "lora", "lora_rank": 0}, '"lora_rank": is 0, and must be at least 1'),
        ({"learning_rate": 0}, '"learning_rate" is 0, and must be above 0: at 0 no weight moves'),
        ({"learning_rate": -0.001}, '"learning_rate" is -0.001, and must be above 0'),
        ({"per_device_train_batch_size": 0}, '"per_device_train_batch_size": is 0, and must be at least 1'),
        ({"gradient_accumulation_steps": 0}, '"gradient_accumulation_steps": is 0, and must be at least 1'),
        ({"max_steps": 0}, '"max_steps" is 0: nothing would be trained; -1 goes by num_train_epochs'),
        ({"max_steps": -1, "num_train_epochs": 0}, '"num_train_epochs" must be above 0'),
        ({"max_steps": None, "num_train_epochs": None}, "num_train_epochs"),
    ],
)  # fmt: skip
def test_settings_that_train_nothing_are_refused_with_their_line(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], told: str
) -> None:
    monkeypatch.setattr("trainkit.start.need_training_packages", lambda: pytest.fail("went on"))
    said = refused(**keys)
    assert told in said
    assert "run.yaml" in said


def test_judged_answers_for_sft_say_which_stage_trains_on_them(
    refused: Callable[..., str], judged: dict[str, str]
) -> None:
    said = refused(**judged)
    assert 'dataset "judged" holds judged answers, and stage sft trains on chat rows\n    Set stage: kto, or' in said


def test_a_deepspeed_file_that_contradicts_the_config_is_told_with_both_numbers(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainkit.start.need_training_packages", lambda: pytest.fail("went on"))
    sizes = {"train_batch_size": 7, "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 3}
    (tmp_path / "zero.json").write_text(json.dumps({"zero_optimization": {"stage": 2}, **sizes}))
    said = refused(deepspeed=str(tmp_path / "zero.json"))
    assert (
        '"train_micro_batch_size_per_gpu" is 4, and per_device_train_batch_size is 2; write "auto", or the same' in said
    )
    assert '"gradient_accumulation_steps" is 3, and gradient_accumulation_steps is 1' in said
    assert '"train_batch_size" is 7, and per_device_train_batch_size 2 × gradient_accumulation_steps 1' in said


# ------------------------------------------------------------------------------------------------------------ the model


@pytest.mark.parametrize("name", ["q_prjo", "layers.9.self_attn.q_proj"])
def test_targets_that_are_not_there_are_named_with_those_that_are(refused: Callable[..., str], name: str) -> None:
    said = refused(finetuning_type="lora", lora_target=f"v_proj,{name}")
    assert f"lora_target names no module of this model: {name}\n  It has: down_proj, gate_proj" in said


@pytest.mark.parametrize("stage", ["dpo", "kto"])
def test_a_reference_that_reads_other_ids_is_refused_before_anything_is_overwritten(
    refused: Callable[..., str], other_model: Path, judged: dict[str, str], tmp_path: Path, stage: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train_results.json").write_text(KEPT)
    data = {"dataset": "pairs"} if stage == "dpo" else judged
    said = refused(stage=stage, **data, ref_model=str(other_model), overwrite_output_dir=True)
    assert (
        f"{other_model}: ref_model does not share the vocabulary of the model that is trained: 'Hello, world!'" in said
    )
    assert "choose a model with the same tokenizer" in said


def test_a_reference_without_a_tokenizer_is_told_by_its_rows(
    trainkit: Run, config_file: Run, other_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(other_model, tmp_path / "bare")
    for path in (tmp_path / "bare").glob("*token*"):
        path.unlink()
    ran = trainkit("run", config_file(stage="dpo", dataset="pairs", ref_model=str(tmp_path / "bare")))
    assert ran.code == 2
    assert "ref_model has 320 rows for tokens, the model that is trained 400" in ran.err


def test_an_adapter_of_another_base_is_refused_with_both_sizes(
    trainkit: Run, config_file: Run, refused: Callable[..., str], other_model: Path, tmp_path: Path
) -> None:
    keys = {"finetuning_type": "lora", "max_steps": 1}
    made = config_file(name="other.yaml", model_name_or_path=str(other_model), output_dir=str(tmp_path / "a"), **keys)
    assert trainkit("run", made).code == 0
    said = refused(adapter_name_or_path=str(tmp_path / "a"), **keys)
    assert f"{tmp_path / 'a'}: the adapter belongs to another model: " in said
    assert "takes 32 inputs, the adapter's 16" in said
    assert "Name the model that it was trained on as model_name_or_path." in said


# ------------------------------------------------------------------------------------------------------ the checkpoints


def checkpoint_of(trainkit: Run, config_file: Run, tmp_path: Path, **changes: Any) -> Path:
    """A checkpoint after two steps."""
    keys = {"max_steps": 3, "save_strategy": "steps", "save_steps": 2, "output_dir": str(tmp_path / "first"), **changes}
    assert trainkit("run", config_file(name="first.yaml", **keys)).code == 0
    return tmp_path / "first" / "checkpoint-2"


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_checkpoint_of_another_model_is_refused(
    trainkit: Run, config_file: Run, refused: Callable[..., str], other_model: Path, tmp_path: Path, method: str
) -> None:
    other = {"model_name_or_path": str(other_model), "finetuning_type": method}
    found = checkpoint_of(trainkit, config_file, tmp_path, **other)
    said = refused(resume_from_checkpoint=str(found), finetuning_type=method)
    assert str(found) in said
    assert "it is of another model: " in said
    assert "Resume with the model that it was written for" in said


def test_a_checkpoint_of_another_adapter_is_refused_with_what_differs(
    trainkit: Run, config_file: Run, refused: Callable[..., str], tmp_path: Path
) -> None:
    lora = {"finetuning_type": "lora", "lora_target": "q_proj"}
    found = checkpoint_of(trainkit, config_file, tmp_path, **lora)
    said = refused(resume_from_checkpoint=str(found), **lora | {"lora_target": "q_proj,v_proj", "lora_rank": 4})
    assert (
        f"{found}: its adapter was made with other settings, and stays as it is: lora_rank: 8 → 4; lora_target: "
        in said
    )


def test_a_checkpoint_with_other_trained_layers_is_refused(
    trainkit: Run, config_file: Run, refused: Callable[..., str], tmp_path: Path
) -> None:
    frozen = {"finetuning_type": "freeze", "freeze_trainable_layers": 1}
    found = checkpoint_of(trainkit, config_file, tmp_path, **frozen)
    ran = trainkit("run", config_file(resume_from_checkpoint=str(found), **frozen | {"freeze_trainable_layers": 2}))
    assert ran.code == 2
    assert f"{found}: it is of another model: it has no parameter" in ran.err


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "trainer_state.json", "checkpoint.json"]
)
def test_a_checkpoint_with_a_file_cut_off_is_refused_where_it_is_named(
    trainkit: Run, config_file: Run, refused: Callable[..., str], tmp_path: Path, name: str
) -> None:
    found = checkpoint_of(trainkit, config_file, tmp_path)
    whole = (found / name).read_bytes()
    (found / name).write_bytes(whole[: len(whole) // 2])
    said = refused(resume_from_checkpoint=str(found))
    assert str(found) in said
    assert name in said


def test_a_checkpoint_with_a_file_cut_off_is_passed_over_where_an_older_one_is_whole(
    trainkit: Run, config_file: Run, stop_after_five: Run, tmp_path: Path
) -> None:
    path = config_file(save_strategy="steps", save_steps=2)
    stop_after_five(path)
    weights = tmp_path / "out" / "checkpoint-4" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    ran = trainkit("run", path, "--json")
    assert ran.code == 0
    assert f'passed over: {weights.parent}: "model.safetensors" ' in ran.err
    assert ran.json["resumed_from"] == 2


# ------------------------------------------------------------------------------------------------------ folder and port


def test_a_disk_that_only_the_first_write_shows_to_be_read_only(
    trainkit: Run, config_file: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = os.mkdir

    def read_only(path: Any, *arguments: Any, **options: Any) -> None:
        if str(path) == str(tmp_path / "out"):
            raise OSError(errno.EROFS, "Read-only file system")
        mkdir(path, *arguments, **options)

    monkeypatch.setattr(os, "mkdir", read_only)
    ran = trainkit("run", config_file())
    assert ran.code == 2
    assert f"{tmp_path}/out: cannot be written to: the file system is read-only\n  Choose another output_dir" in ran.err


def test_a_second_run_in_the_folder_of_one_at_work_is_refused_and_the_first_ends_well(
    launch: Run, trainkit: Run, config_file: Run, tmp_path: Path
) -> None:
    path = config_file(max_steps=4)
    first = launch("run", path, pause_s=0.5)
    first.wait_for_step()
    ran = trainkit("run", path)
    assert ran.code == 2
    assert f"{tmp_path}/out: another run is at work in this folder\n  Wait for it, or choose another" in ran.err
    assert first.ended().code == 0
    assert [line["current_steps"] for line in read_log(tmp_path / "out") if "loss" in line] == [1, 2, 3, 4]


def test_a_port_in_use_is_named_before_any_process_is_started(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for name, value in {"NPROC_PER_NODE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, value)
        said = refused()
    assert f"port {port} cannot be used" in said


# ---------------------------------------------------------------------------------------------------------- the numbers


@pytest.mark.parametrize("capability", [(7, 0), (7, 5)])
def test_a_gpu_without_bf16_is_refused(capability: tuple[int, int]) -> None:
    with pytest.raises(UsageError) as caught:
        check_capability(capability, "T4")
    assert "bf16 needs a GPU of compute capability 8.0 or above, and T4 has 7." in str(caught.value)
    assert "Remove bf16 and pure_bf16" in str(caught.value)


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (9, 0), (12, 0)])
def test_a_gpu_with_bf16_is_no_fault(capability: tuple[int, int]) -> None:
    check_capability(capability, "newer")


@pytest.mark.parametrize("there", [True, False])
def test_a_cpu_without_bf16_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, there: bool
) -> None:
    monkeypatch.setattr("trainkit.precision.cpu_has_bf16", lambda: there)
    check_bf16(torch.device("cpu"))
    assert ("bf16 on a CPU without instructions for it" in caplog.text) is not there


def test_a_run_whose_weights_are_no_numbers_stops_with_its_batch_and_publishes_no_model(
    trainkit: Run, config_file: Run, model_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(model_folder, tmp_path / "poisoned")
    weights = load_file(tmp_path / "poisoned" / "model.safetensors")
    weights["model.norm.weight"][0] = torch.nan
    save_file(weights, tmp_path / "poisoned" / "model.safetensors", {"format": "pt"})
    ran = trainkit("run", config_file(model_name_or_path=str(tmp_path / "poisoned"), max_skipped_steps=2))
    assert ran.code == 3
    assert ran.err.count("is skipped: its loss is nan, no weight is changed; its batch is in") == 2
    assert "the loss of step 3 is nan: training has diverged, 3 steps in a row\n  Lower learning_rate" in ran.err
    batch = tmp_path / "out" / "skipped_batches" / "step-3.jsonl"
    assert str(batch) in ran.err
    first = json.loads(batch.read_text("utf-8").splitlines()[0])
    assert "<|im_start|>user" in first["text"]
    assert first["trained"].endswith("<|im_end|>")
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_learning_rate_that_blows_the_model_up_stops_the_run(trainkit: Run, config_file: Run, tmp_path: Path) -> None:
    ran = trainkit("run", config_file(learning_rate=1e30, max_skipped_steps=1, save_strategy="steps", save_steps=1))
    assert ran.code == 3
    assert "training has diverged, 2 steps in a row\n  Lower learning_rate, or raise warmup_steps." in ran.err


def poison_step(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Have the loss of one forward pass be no number; the first is the rehearsal's."""
    forward, count = Objective.forward, [0]

    def spoiled(self: Objective, *arguments: Any, **options: Any) -> Any:
        loss, metrics = forward(self, *arguments, **options)
        count[0] += 1
        return (loss * torch.nan if count[0] == number + 1 else loss), metrics

    monkeypatch.setattr(Objective, "forward", spoiled)


def test_a_single_bad_step_is_skipped_counted_and_told(
    trainkit: Run, config_file: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison_step(monkeypatch, 3)
    ran = trainkit("run", config_file(max_steps=5))
    assert ran.code == 0
    assert ran.err.count("is skipped") == 1
    assert "step 3 is skipped: its loss is nan, no weight is changed; its batch is in" in ran.err
    assert json.loads((tmp_path / "out" / "train_results.json").read_text())["skipped_steps"] == 1
    assert [p.name for p in (tmp_path / "out" / "skipped_batches").iterdir()] == ["step-3.jsonl"]
    losses = [line.get("loss") for line in read_log(tmp_path / "out")]
    assert [loss for loss in losses if loss is not None and not 0 < loss < 10] == []


# ----------------------------------------------------------------------------------------------------------- the memory


def small_memory(monkeypatch: pytest.MonkeyPatch, most: int, *, until: int = 10**9) -> list[int]:
    """Forward passes of more than ``most`` examples find no memory, from the first to number ``until``; the list grows by
    the size of each that was tried."""
    forward = Objective.forward
    tried: list[int] = []

    def cramped(self: Objective, batch: Any, *arguments: Any, **options: Any) -> Any:
        tried.append(batch.num_sequences)
        if batch.num_sequences > most and len(tried) <= until:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")
        return forward(self, batch, *arguments, **options)

    monkeypatch.setattr(Objective, "forward", cramped)
    return tried


def test_out_of_memory_cuts_the_steps_smaller_and_changes_no_loss(
    trainkit: Run, config_file: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"per_device_train_batch_size": 4, "max_steps": 3}
    assert trainkit("run", config_file(**keys)).code == 0
    whole = [line["loss"] for line in read_log(tmp_path / "out") if "loss" in line]
    with monkeypatch.context() as patch:
        tried = small_memory(patch, 1)
        ran = trainkit("run", config_file(**keys, output_dir=str(tmp_path / "cut")))
    assert ran.code == 0
    for parts in (2, 4):
        assert (
            f"out of memory: micro-batches are cut in {parts} from here on; each step trains on the same rows"
            in ran.err
        )
    assert tried == [4, 2] + [1] * 4 * 4
    cut = [line["loss"] for line in read_log(tmp_path / "cut") if "loss" in line]
    assert cut == pytest.approx(whole, rel=1e-5)


def test_where_no_cut_helps_the_run_ends_with_three_ways_out(
    trainkit: Run, config_file: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_memory(monkeypatch, 0, until=2)  # two examples, then one; what looks for ways out computes too
    ran = trainkit("run", config_file())
    assert ran.code == 3
    reason, _, ways = ran.err.rpartition("What would make room:\n")
    assert "out of memory even with one example at a time" in reason
    assert len([line for line in ways.strip().splitlines() if line.strip()]) == 3
    assert not (tmp_path / "out" / "model.safetensors").exists()
