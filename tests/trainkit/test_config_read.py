"""What a user writes, as it is read: YAML 1.2's numbers, text that stays text, key=value and --flags on top."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from trainkit.config_read import ConfigLoader, read_config


def read(text: str) -> Any:
    return yaml.load(text, Loader=ConfigLoader)


def words(*given_words: str) -> dict[str, Any]:
    found = read_config(None, given_words)
    assert found.faults == []
    return found.raw


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e-5", 1e-5), ("1.e-4", 1e-4), ("5E6", 5e6), ("1.0e-4", 1e-4), (".5", 0.5), ("-2e3", -2e3), ("1_000.5", 1000.5),
     ("12", 12), ("-1", -1), ("0x1f", 31), ("1_000", 1000), ("+.inf", float("inf"))],
)  # fmt: skip
def test_the_numbers_of_yaml_1_2_are_numbers(text: str, number: float) -> None:
    found = read(f"a: {{b: [{text}]}}")["a"]["b"][0]
    assert (found, type(found)) == (number, type(number))


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(1e-05)
@example(1e22)
def test_every_number_that_python_or_json_writes_is_read_as_that_number(number: float) -> None:
    assert read(f"a: {number!r}")["a"] == number


@pytest.mark.parametrize("text", ["2024-07-26", "12:30:45", "1:30", "1e", "e5", "1.2.3", "1e5x", "--1"])
def test_what_only_looks_like_a_number_is_text(text: str) -> None:
    assert read(f"a: {text}") == {"a": text}


@pytest.mark.parametrize(
    ("text", "truth"), [("yes", True), ("on", True), ("no", False), ("off", False), ("true", True)]
)
def test_the_truths_of_yaml_1_1_stay_truths(text: str, truth: bool) -> None:
    assert read(f"a: {text}") == {"a": truth}


def test_text_keys_keep_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model_revision: 0123456\nrun_name: 1.10\ndataset: [007, 1e3, plain]\nseed: 007\ntemplate: null\n")
    raw = read_config(path).raw
    assert raw == {
        "model_revision": "0123456", "run_name": "1.10", "dataset": ["007", "1e3", "plain"], "seed": 7, "template": None,
    }  # fmt: skip


def test_merged_keys_are_read_and_have_no_line(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("lr_scheduler_kwargs: &base {min_lr: 1e-6}\n<<: {seed: 3, model_revision: 012}\nmax_steps: 4\n")
    given_keys = read_config(path)
    assert given_keys.raw == {
        "lr_scheduler_kwargs": {"min_lr": 1e-6},
        "seed": 3,
        "model_revision": "012",
        "max_steps": 4,
    }
    assert given_keys.origins["seed"] == "file"
    assert given_keys.origins["max_steps"] == "file, line 3"


def test_flags_are_read_as_llama_factorys_shell_scripts_write_them() -> None:
    line = (
        "--stage sft --do_train True --dataset a,b --lora_target q_proj,v_proj --learning-rate 1e-4 --max_steps -1 "
        "--bf16 --use_cpu --template=qwen --warmup_ratio=0.1 --no_do_sample --lr_scheduler_kwargs.num_cycles 2"
    )
    assert words(*line.split()) == {
        "stage": "sft", "do_train": True, "dataset": "a,b", "lora_target": "q_proj,v_proj", "learning_rate": 1e-4,
        "max_steps": -1, "bf16": True, "use_cpu": True, "template": "qwen", "warmup_ratio": 0.1, "do_sample": False,
        "lr_scheduler_kwargs": {"num_cycles": 2},
    }  # fmt: skip


def test_a_list_flag_takes_the_words_up_to_the_next_flag() -> None:
    assert words("--dataset", "a", "b", "--bf16", "--eval_dataset", "c", "seed=1") == {
        "dataset": ["a", "b"],
        "bf16": True,
        "eval_dataset": "c",
        "seed": 1,
    }


def test_a_truth_that_may_be_a_path_stands_alone_or_takes_one() -> None:
    assert words("--resume_from_checkpoint", "--bf16") == {"resume_from_checkpoint": True, "bf16": True}
    assert words("--resume_from_checkpoint", "out/checkpoint-5") == {"resume_from_checkpoint": "out/checkpoint-5"}


def test_mappings_are_written_as_json_or_with_dots() -> None:
    assert words("--lr_scheduler_kwargs", '{"power": 2}') == {"lr_scheduler_kwargs": {"power": 2}}
    assert words("lr_scheduler_kwargs={power: 2}", "lr_scheduler_kwargs.lr_end=1e-7") == {
        "lr_scheduler_kwargs": {"power": 2, "lr_end": 1e-7}
    }


def test_the_text_of_a_text_key_is_taken_as_it_is() -> None:
    assert words("default_system=You are: brief # and kind", "run_name=2024-01-01", "template='qwen'") == {
        "default_system": "You are: brief # and kind",
        "run_name": "2024-01-01",
        "template": "qwen",
    }


def test_an_empty_word_is_empty_text_for_a_flag_and_null_for_an_override() -> None:
    assert words("--default_system", "", "template=", "max_samples=") == {
        "default_system": "",
        "template": None,
        "max_samples": None,
    }


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("--lerning-rate 3", '"--lerning-rate" is no flag. Did you mean --learning_rate?'),
        ("--frsh", '"--frsh" is no flag. Did you mean --fresh?'),
        ("--xyzzy=1", '"--xyzzy" is no flag.'),
        ("--stage", '"--stage" needs a value'),
        ("--stage --bf16", '"--stage" needs a value'),
        ("fast", '"fast" is no key=value'),
        ("seed=1 seed.low=2", '"seed.low": seed is no mapping'),
    ],
)
def test_words_that_cannot_be_read_are_told_with_the_nearest_flag(line: str, fault: str) -> None:
    assert read_config(None, line.split()).faults == [fault]


def test_the_callers_mapping_is_left_as_it_was() -> None:
    mine: dict[str, Any] = {"lr_scheduler_kwargs": {"power": 2}}
    read_config(mine, ["lr_scheduler_kwargs.lr_end=1", "seed=2"])
    assert mine == {"lr_scheduler_kwargs": {"power": 2}}


@pytest.mark.parametrize("value", ["[" * 3000, "9" * 5000, "{a: [}", "2024-13-45"])
def test_a_value_that_is_no_yaml_is_text(value: str) -> None:
    assert words(f"max_steps={value}") == {"max_steps": value}
