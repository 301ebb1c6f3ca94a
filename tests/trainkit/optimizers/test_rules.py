"""Choices of an optimizer that cannot be, each refused with its reason; and what is not read, told."""

from __future__ import annotations

import re
from typing import Any

import pytest

from registry.errors import UsageError
from tests.trainkit.optimizers.tiny import keys, optimizer_of, qwen2
from trainkit.config import load_config

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"use_galore": True, "use_muon": True}, "use_galore and use_muon exclude each other"),
    ({"use_galore": True, "finetuning_type": "lora"}, "use_galore.*whole matrices, and lora trains none"),
    ({"use_apollo": True, "finetuning_type": "lora"}, "use_apollo.*lora trains none"),
    ({"use_badam": True, "finetuning_type": "lora"}, "use_badam.*lora trains none"),
    ({"use_galore": True, "optim": "sgd"}, "use_galore.*builds on optim adamw_torch,.* not on sgd"),
    ({"use_muon": True, "optim": "adamw_8bit"}, "use_muon.*builds on optim adamw_torch, adamw_torch_fused, not on"),
    ({"optim": "galore_adamw"}, "galore_adamw.*needs \"optim_target_modules\""),
    ({"optim_target_modules": "attn"}, "read by optim galore_\\* and apollo_\\* only"),
    ({"optim": "adamw_hf"}, "is gone from transformers; write optim: adamw_torch"),
    ({"use_galore": True, "galore_layerwise": True, "gradient_accumulation_steps": 2}, "galore_layerwise.*must be 1"),
    ({"optim": "lomo", "gradient_accumulation_steps": 4}, "optim: lomo.*must be 1"),
    ({"learning_rate": 0}, "\"learning_rate\" is 0, and must be above 0: at 0 no weight moves"),
    ({"learning_rate": -1e-5}, "learning_rate.*-1e-05.*above 0"),
    ({"learning_rate": 0, "optim": "adafactor"}, "must be above 0"),
    ({"adam_epsilon": 0}, "\"adam_epsilon\" must be above 0"),
    ({"adam_beta1": 1}, "adam_beta1.*must be below 1"),
    ({"loraplus_lr_ratio": 0, "finetuning_type": "lora"}, "loraplus_lr_ratio.*must be above 0"),
    ({"loraplus_lr_ratio": 4, "finetuning_type": "lora", "use_muon": True}, "loraplus_lr_ratio.*use_muon exclude"),
    ({"optim_args": "momentum"}, "\"momentum\" is not name=value"),
    ({"optim": "sgd", "optim_args": "momentun=0.9"}, "sgd has no setting \"momentun\".*Did you mean \"momentum\""),
    ({"optim": "sgd", "optim_args": "momentum=much"}, "momentum must be a number, not much"),
    ({"optim": "sgd", "optim_args": "nesterov=2"}, "nesterov must be true or false"),
    ({"optim": "galore_adamw", "optim_target_modules": "attn", "optim_args": "rank=0"}, "rank must be a whole number of 1"),
    ({"optim_args": "rank=8"}, "adamw_torch has no setting \"rank\"; it takes none"),
    ({"use_badam": True, "badam_mode": "ratio", "badam_update_ratio": 0}, "badam_update_ratio.*must be above 0.000001"),
    ({"use_badam": True, "badam_switch_mode": None}, "badam_switch_mode.*must be one of"),
    ({"optim": "schedule_free_adamw", "warmup_ratio": 0.1}, "warms up by itself.*whole number"),
    ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "goes by what evaluation finds; set eval_strategy"),
    ({"lr_scheduler_type": "greedy", "lr_scheduler_kwargs": {"factor": 1.0}}, "factor.*above 0 and below 1"),
    ({"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": {"decay_type": "steps"}}, "one of linear, cosine"),
    ({"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 0, "min_lr_rate": 0}}, "say the same"),
    ({"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"num_cycle": 1}}, "Did you mean \"num_cycles\""),
]  # fmt: skip
SAID: list[tuple[dict[str, Any], str]] = [
    ({"galore_rank": 8}, "galore_rank is read with use_galore: true only"),
    ({"optim": "sgd", "adam_beta1": 0.5}, "optim: sgd does not read adam_beta1"),
    ({"use_apollo": True, "apollo_layerwise": True}, "max_grad_norm has no effect"),
    ({"lr_scheduler_type": "constant", "warmup_steps": 5}, "constant knows no warm-up"),
    ({"use_badam": True, "badam_mode": "ratio", "weight_decay": 0.1}, "badam_mode: ratio does not read weight_decay"),
]


@pytest.mark.parametrize(("changes", "fault"), REFUSED)
def test_what_cannot_be_is_refused_with_its_reason(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(keys(**changes))
    assert re.search(fault, str(caught.value), re.DOTALL)


@pytest.mark.parametrize(("changes", "note"), SAID)
def test_what_is_not_read_is_told(changes: dict[str, Any], note: str) -> None:
    assert any(note in said for said in load_config(keys(**changes)).notes)


def test_a_plain_config_is_told_nothing_of_optimizers() -> None:
    assert not [note for note in load_config(keys()).notes if "read" in note or "max_grad_norm" in note]


@pytest.mark.parametrize("name", ["galore", "apollo"])
def test_targets_that_match_nothing_are_refused_with_what_there_is(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        optimizer_of(qwen2(), **{f"use_{name}": True, f"{name}_target": "w_pack"})
    assert f'"{name}_target" matches no linear layer' in str(caught.value)
    assert "down_proj, gate_proj" in str(caught.value)


def test_a_first_block_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="there are 2 blocks: 0 to 1"):
        optimizer_of(qwen2(), use_badam=True, badam_start_block=2)


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainkit.optimizers.build.importlib.util.find_spec", lambda name: None)
    for changes, package in (({"use_galore": True}, "galore-torch"), ({"optim": "lion_8bit"}, "bitsandbytes")):
        with pytest.raises(UsageError) as caught:
            optimizer_of(qwen2(), **changes)
        assert f"pip install {package}" in str(caught.value)


def test_badam_in_a_model_without_numbered_layers_is_refused() -> None:
    import torch

    with pytest.raises(UsageError, match="no numbered layers"):
        optimizer_of(torch.nn.Linear(2, 2), use_badam=True)
