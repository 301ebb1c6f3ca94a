"""A run as a whole: what it trains, what it leaves behind, and that stopping it costs nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from registry.errors import UsageError
from trainkit.config import load_config
from trainkit.run import run

Run = Callable[..., Any]
KINDS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"finetuning_type": "lora", "lora_dropout": 0.1, "learning_rate": 0.01},
    "dpo": {"stage": "dpo", "dataset": "pairs", "finetuning_type": "lora", "lora_dropout": 0.1, "learning_rate": 0.01},
    "pt": {"stage": "pt", "dataset": "pages", "template": None, "cutoff_len": 32},
}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = folder.glob("*model.safetensors")
    return load_file(path)


# ------------------------------------------------------------------------------------------ what is left behind
@pytest.fixture(scope="module")
def finished(model_folder: Path, data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A finished full sft run of 6 steps over 24 rows, with curves, checkpoints and evaluation; and its result."""
    folder = tmp_path_factory.mktemp("runs") / "out"
    keys = {
        "model_name_or_path": str(model_folder), "do_train": True, "finetuning_type": "full", "template": "qwen3_nothink",
        "dataset": "questions", "dataset_dir": str(data_folder), "cutoff_len": 64, "output_dir": str(folder), "max_steps": 6,
        "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "learning_rate": "1e-3", "logging_steps": 2, "save_steps": 2,
        "save_total_limit": 2, "plot_loss": True, "use_cpu": True, "val_size": 4, "eval_strategy": "steps", "eval_steps": 3, "do_eval": True,
    }  # fmt: skip
    return folder, run(load_config(keys), quiet=True)


def test_the_log_holds_llama_factorys_fields_line_by_line(finished: tuple[Path, Any], trainer_log: Run) -> None:
    lines = trainer_log(finished[0])
    assert [(line["current_steps"], "loss" in line, "eval_loss" in line) for line in lines] == [
        (2, True, False), (3, False, True), (4, True, False), (6, True, False), (6, False, True),
    ]  # fmt: skip
    first = lines[0]
    assert {"lr", "grad_norm", "elapsed_time", "remaining_time", "throughput", "total_tokens"} <= first.keys()
    assert (first["total_steps"], first["percentage"], first["epoch"]) == (
        6,
        33.33,
        0.4,
    )  # 20 rows are 5 steps of 2 × 2
    assert first["lr"] == pytest.approx(1e-3 * 5 / 6)  # linear, at the second step


def test_the_results_hold_the_trainers_numbers(finished: tuple[Path, Any], trainer_log: Run) -> None:
    folder, result = finished
    train, evaluated, both = (
        json.loads((folder / f"{n}_results.json").read_text("utf-8")) for n in ("train", "eval", "all")
    )
    assert set(train) == {
        "epoch", "num_input_tokens_seen", "train_loss", "train_runtime", "train_samples_per_second", "train_steps_per_second",
        "train_tokens_per_second", "train_trained_tokens_per_second",
    }  # fmt: skip
    losses = [line["loss"] for line in trainer_log(folder) if "loss" in line]
    assert train["train_loss"] == pytest.approx(sum(losses) / 3)  # each line is the mean of two steps
    assert train["epoch"] == 1.2
    assert set(evaluated) == {
        "eval_loss", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "perplexity", "epoch",
    }  # fmt: skip
    assert both == {**train, **evaluated}
    assert result.numbers == both
    assert (result.first_loss + result.last_loss) / 2 == pytest.approx(sum(losses) / 3, rel=0.1)  # single steps


def test_the_curves_are_pictures(finished: tuple[Path, Any]) -> None:
    for name in ("training_loss.png", "training_eval_loss.png"):
        assert (finished[0] / name).read_bytes().startswith(b"\x89PNG")


def test_the_settings_beside_the_model_can_be_run_again(finished: tuple[Path, Any]) -> None:
    saved = yaml.safe_load((finished[0] / "training_args.yaml").read_text("utf-8"))
    assert (saved["learning_rate"], saved["dataset"], saved["lr_scheduler_type"]) == (0.001, ["questions"], "linear")
    again = load_config(finished[0] / "training_args.yaml")
    assert again.fingerprint() == json.loads((finished[0] / "run.json").read_text())["fingerprint"]


def test_the_model_card_says_what_was_trained_on_what(finished: tuple[Path, Any], model_folder: Path) -> None:
    text = (finished[0] / "README.md").read_text("utf-8")
    front = yaml.safe_load(text.split("---")[1])
    assert front["library_name"] == "transformers"
    assert not {"base_model", "datasets"} & set(front)  # folders and entries of a file are no names that a hub knows
    assert str(model_folder) in text
    data = "".join(line for line in text.splitlines() if line.startswith("| questions | `"))
    assert "questions.jsonl` | 24 | `" in data  # and the file's hash
    for words in (
        "| learning_rate | `0.001` |",
        "| gradient_accumulation_steps | `2` |",
        "| eval_loss | ",
    ):
        assert words in text


def test_only_the_newest_checkpoints_are_kept(finished: tuple[Path, Any]) -> None:
    assert sorted(p.name for p in finished[0].glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-6"]


def test_the_state_is_hugging_faces(finished: tuple[Path, Any]) -> None:
    state = json.loads((finished[0] / "trainer_state.json").read_text("utf-8"))
    assert (state["global_step"], state["max_steps"], state["epoch"]) == (6, 6, 1.2)
    assert [(entry["step"], "loss" in entry) for entry in state["log_history"]] == [
        (2, True),
        (3, False),
        (4, True),
        (6, True),
        (6, False),
    ]


def test_what_was_trained_loads_in_plain_transformers_and_scores_as_it_said(finished: tuple[Path, Any]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, result = finished
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    total, count = 0.0, 0
    for example in result.examples.eval:
        loss = model(input_ids=torch.tensor([list(example.ids)]), labels=torch.tensor([list(example.labels)])).loss
        total, count = total + float(loss.detach()) * example.num_trained, count + example.num_trained
    assert total / count == pytest.approx(result.numbers["eval_loss"], abs=1e-4)
    assert tokenizer.decode(list(result.examples.eval[0].ids)).startswith("<|im_start|>user\n")


def test_rejected_rows_lie_beside_the_model(trainkit: Run, config_file: Run, tmp_path: Path) -> None:
    rows = [{"instruction": "a", "output": "b c"}, {"instruction": "no answer"}, {"instruction": "d", "output": "e"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "dataset_info.json").write_text('{"mine": {"file_name": "rows.jsonl"}}')
    ran = trainkit("run", config_file(dataset="mine", dataset_dir=str(tmp_path), max_steps=1))
    assert ran.code == 0
    assert "3 rows in, 1 rejected, 2 examples to train on" in ran.err
    assert [
        json.loads(line)["row"] for line in (tmp_path / "out" / "rejected_rows.jsonl").read_text().splitlines()
    ] == [2]


# ------------------------------------------------------------------------------------------------- first losses
@pytest.mark.parametrize("kind", ["full", "pt"])
def test_the_first_loss_is_that_of_plain_transformers_on_the_same_ids(
    kind: str, settings: Run, model_folder: Path, tmp_path: Path, trainer_log: Run
) -> None:
    from transformers import AutoModelForCausalLM

    result = run(load_config(settings(**KINDS[kind], max_steps=1, disable_shuffling=True)), quiet=True)
    model = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    total, count = 0.0, 0
    for example in (result.examples.train[0], result.examples.train[1]):
        trained = sum(label != -100 for label in example.labels[1:])
        loss = model(input_ids=torch.tensor([list(example.ids)]), labels=torch.tensor([list(example.labels)])).loss
        total, count = total + float(loss.detach()) * trained, count + trained
    assert trainer_log(tmp_path / "out")[0]["loss"] == pytest.approx(total / count, abs=1e-5)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_first_loss_of_dpo_is_log_2(method: str, settings: Run, tmp_path: Path, trainer_log: Run) -> None:
    run(
        load_config(settings(**{**KINDS["dpo"], "finetuning_type": method, "lora_dropout": 0.0}, max_steps=3)),
        quiet=True,
    )
    first, *_, last = trainer_log(tmp_path / "out")
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["reward"] == 0
    assert last["loss"] != first["loss"]
    assert {"reward", "accuracy"} <= last.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_training_lowers_the_loss(kind: str, settings: Run, tmp_path: Path, trainer_log: Run) -> None:
    run(load_config(settings(**KINDS[kind], max_steps=12, lr_scheduler_type="constant")), quiet=True)
    losses = [line["loss"] for line in trainer_log(tmp_path / "out")]
    assert sum(losses[-3:]) / 3 < sum(losses[:3]) / 3


def test_a_run_in_bf16_ends_near_the_one_in_fp32(settings: Run, tmp_path: Path) -> None:
    keys = settings(max_steps=3)
    full = run(load_config(keys), quiet=True)
    half = run(load_config({**keys, "bf16": True, "output_dir": str(tmp_path / "half")}), quiet=True)
    assert half.last_loss == pytest.approx(full.last_loss, rel=0.02)
    assert {t.dtype for t in weights(tmp_path / "half").values()} == {torch.float32}


def test_gradient_checkpointing_changes_no_loss(settings: Run, tmp_path: Path) -> None:
    keys = settings(max_steps=3)
    plain = run(load_config(keys), quiet=True)
    saving = run(
        load_config({**keys, "gradient_checkpointing": True, "output_dir": str(tmp_path / "saving")}), quiet=True
    )
    assert saving.last_loss == pytest.approx(plain.last_loss, abs=1e-6)


# -------------------------------------------------------------------------------------------- what can go wrong
@pytest.mark.parametrize("keys", [{}, {"logging_strategy": "no"}, {"logging_steps": 4}])
def test_a_loss_that_is_no_number_any_more_stops_the_run(
    config_file: Run, trainkit: Run, keys: dict[str, Any], tmp_path: Path
) -> None:
    ran = trainkit(
        "run", config_file(**{"learning_rate": "1e30", "max_grad_norm": 0, "lr_scheduler_type": "constant", **keys})
    )
    assert ran.code == 3
    assert "training has diverged, 6 steps in a row\n  Lower learning_rate, or raise warmup_steps." in ran.err
    assert (tmp_path / "out" / "skipped_batches").is_dir()
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "running"


def test_a_run_that_logs_nothing_reports_its_mean_loss_all_the_same(
    config_file: Run, trainkit: Run, trainer_log: Run, tmp_path: Path
) -> None:
    trainkit("run", config_file(max_steps=3))
    losses = [line["loss"] for line in trainer_log(tmp_path / "out")]
    found = trainkit("run", config_file(max_steps=3, output_dir="silent", logging_strategy="no"), "--json").json
    assert found["train_loss"] == pytest.approx(sum(losses) / 3)


def test_a_template_whose_tokens_the_model_has_no_room_for_is_refused(
    config_file: Run, trainkit: Run, tmp_path: Path
) -> None:
    ran = trainkit("run", config_file(template="llama3", max_steps=1))
    assert ran.code == 2
    assert (
        "the tokenizer has 402 ids, the model only 400 rows for them. The template adds: <|eot_id|>, <|eom_id|>."
        in ran.err
    )
    assert not (tmp_path / "out").exists()


def test_an_adapter_is_continued_and_a_new_one_begins_over_a_merged_one(settings: Run, tmp_path: Path) -> None:
    keys = settings(
        **{**KINDS["lora"], "lora_dropout": 0.0}, max_steps=3, disable_shuffling=True, lr_scheduler_type="constant"
    )
    run(load_config({**keys, "output_dir": str(tmp_path / "first")}), quiet=True)
    given = {**keys, "adapter_name_or_path": str(tmp_path / "first")}
    continued = run(load_config({**given, "output_dir": str(tmp_path / "second")}), quiet=True)
    begun = run(load_config({**given, "create_new_adapter": True, "output_dir": str(tmp_path / "third")}), quiet=True)
    plain = run(load_config({**keys, "output_dir": str(tmp_path / "fourth")}), quiet=True)
    assert continued.first_loss == pytest.approx(begun.first_loss, abs=1e-4)  # both begin where the first one ended
    assert continued.first_loss < plain.first_loss


def test_a_run_needs_something_to_do(settings: Run) -> None:
    with pytest.raises(UsageError, match="there is nothing to do"):
        run(load_config(settings(do_train=False)))
