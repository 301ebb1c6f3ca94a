"""A DeepSpeed JSON: what "auto" becomes, and what contradicts the run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from trainkit.backends.deepspeed_config import Numbers, fill_in, fill_widths, left_auto, read_deepspeed, stage_of

NUMBERS = Numbers(
    micro=2, accumulation=4, world_size=2, learning_rate=1e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1,
    max_grad_norm=1.0, bf16=True,
)  # fmt: skip
SEVEN = ("z0", "z2", "z2_offload", "z2_autotp", "z3", "z3_offload", "z3_fp8")


@pytest.mark.parametrize("name", SEVEN)
def test_the_seven_example_files_leave_nothing_open(name: str) -> None:
    found, faults = read_deepspeed(str(REPOSITORY / f"examples/deepspeed/ds_{name}_config.json"))
    assert found is not None
    filled, more, notes = fill_in(found, NUMBERS)
    filled = fill_widths(filled, 64)
    assert faults + more == []
    assert left_auto(filled) == []
    assert stage_of(filled) == int(name[1])
    assert (
        filled["train_batch_size"],
        filled["train_micro_batch_size_per_gpu"],
        filled["gradient_accumulation_steps"],
    ) == (16, 2, 4)
    assert (filled["gradient_clipping"], filled["bf16"], filled["fp16"]) == (1.0, {"enabled": True}, {"enabled": False})
    assert filled["zero_optimization"]["reduce_bucket_size"] == 64 * 64
    assert bool(notes) == (name in ("z2_autotp", "z3_fp8"))


def test_auto_in_the_optimizer_is_the_runs_own() -> None:
    optimizer = {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"}}
    filled, faults, _ = fill_in({"optimizer": optimizer}, NUMBERS)
    assert faults == []
    assert filled["optimizer"]["params"] == {"lr": 1e-4, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1}


def test_zero_three_buckets_follow_the_width() -> None:
    keys = ("reduce_bucket_size", "stage3_prefetch_bucket_size", "stage3_param_persistence_threshold")
    filled = fill_widths({"zero_optimization": dict.fromkeys(keys, "auto")}, 100)
    assert filled["zero_optimization"] == dict(zip(keys, (10_000, 9_000, 1_000), strict=True))


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"train_batch_size": 15}, "per_device_train_batch_size 2 × gradient_accumulation_steps 4 × 2 processes is 16"),
        (
            {"train_micro_batch_size_per_gpu": 1},
            '"train_micro_batch_size_per_gpu" is 1, and per_device_train_batch_size is 2',
        ),
        ({"gradient_accumulation_steps": 1}, "gradient_accumulation_steps is 4"),
        ({"gradient_clipping": 0.001}, "max_grad_norm is 1.0"),
        ({"bf16": {"enabled": False}}, "bf16 is true"),
        ({"fp16": {"enabled": True}}, "not built"),
        ({"optimizer": {"type": "AdamW", "params": {"lr": 1.0}}}, "learning_rate is 0.0001"),
        ({"scheduler": {"type": "WarmupLR"}}, "lr_scheduler_type"),
        ({"zero_optimization": {"stage": 4}}, "0, 1, 2 or 3"),
        ({"amp": {"enabled": True}}, "apex"),
    ],
)
def test_a_number_that_is_not_the_runs_is_a_fault(config: dict[str, object], told: str) -> None:
    _, faults, _ = fill_in(config, NUMBERS)
    assert len(faults) == 1
    assert told in faults[0]


def test_the_number_of_processes_may_be_unknown_yet() -> None:
    unknown = replace(NUMBERS, world_size=None)
    assert fill_in({"train_batch_size": 32}, unknown)[1] == []
    assert "a multiple of 8" in fill_in({"train_batch_size": 33}, unknown)[1][0]


def test_the_given_mapping_is_left_alone() -> None:
    config = {"zero_optimization": {"stage": 2}, "train_batch_size": "auto"}
    before = json.dumps(config)
    fill_in(config, NUMBERS)
    assert json.dumps(config) == before


@pytest.mark.parametrize(("text", "told"), [(None, "No such file"), ("{", "no JSON"), ("[1]", "must hold an object")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str | None, told: str) -> None:
    path = tmp_path / "ds.json"
    if text is not None:
        path.write_text(text)
    found, faults = read_deepspeed(str(path))
    assert found is None
    assert told in faults[0]
    assert "ds.json" in faults[0]


def test_json_in_the_value_itself_is_read() -> None:
    assert read_deepspeed('{"zero_optimization": {"stage": 1}}') == ({"zero_optimization": {"stage": 1}}, [])
