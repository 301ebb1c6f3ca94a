"""Configs that a hostile or unlucky user writes: every one ends with 2 and a reason, none with a fault of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.errors import Faults, UsageError
from trainkit.config import load_config

Run = Callable[..., Any]
LEAST = {"model_name_or_path": "model", "dataset": "rows", "do_train": True, "output_dir": "out", "stage": "sft"}


@pytest.mark.parametrize("text", [f"cutoff_len: {'9' * 5000}\n", f"stage: {'[' * 3000}{']' * 3000}\n"])
def test_yaml_whose_values_cannot_be_built_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(UsageError, match="not YAML: a value that cannot be read"):
        load_config(tmp_path / "run.yaml")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_train_epochs", float("inf")),
        ("num_train_epochs", 1e300),
        ("save_steps", float("inf")),
        ("learning_rate", 10**400),
        ("learning_rate", float("inf")),
        ("cutoff_len", 10**400),
        ("cutoff_len", 10**20),
        ("max_steps", 10**20),
        ("seed", 2**64),
    ],
)
def test_numbers_that_nothing_can_hold_are_refused(key: str, value: float) -> None:
    with pytest.raises(Faults, match=f'"{key}": is too large a number'):
        load_config({**LEAST, key: value})


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"adam_beta1": 1}, '"adam_beta1" is 1, and must be below 1'),
        ({"repetition_penalty": 0}, '"repetition_penalty" must be above 0'),
        ({"temperature": 1e-300}, "write 0 for the likeliest token"),
        ({"lr_scheduler_type": "linear", "lr_scheduler_kwargs": {"power": 2}}, "linear has no setting"),
        ({"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"powr": 2}}, 'Did you mean "power"'),
        ({"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": "abc"}}, "must be a number of 0 or more"),
        ({"lr_scheduler_type": "inverse_sqrt", "lr_scheduler_kwargs": {"timescale": 0}}, 'timescale" must be above 0'),
    ],
)
def test_settings_that_would_break_or_be_ignored_are_refused(keys: dict[str, Any], fault: str) -> None:
    with pytest.raises(Faults) as raised:
        load_config({**LEAST, **keys})
    assert fault in str(raised.value)


def test_a_value_of_any_size_is_told_in_short() -> None:
    huge: Any = "x"
    for _ in range(8):
        huge = [huge] * 9
    with pytest.raises(Faults) as raised:
        load_config({**LEAST, "stage": huge})
    assert len(str(raised.value)) < 1000


def test_an_additional_target_that_the_model_does_not_have_is_named(trainkit: Run, config_file: Run) -> None:
    ran = trainkit("run", config_file(finetuning_type="lora", additional_target="lm_heat"))
    assert ran.code == 2
    assert "additional_target names no module of this model: lm_heat" in ran.err
    assert 'Did you mean "lm_head"' in ran.err
