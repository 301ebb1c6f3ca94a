"""Every optimizer that a config can name: it moves weights, the loss falls, and saved and loaded it goes on bit for bit."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from tests.trainkit.optimizers.tiny import lora, optimizer_of, qwen2, take_steps, trained, weights
from trainkit.keys import key_table
from trainkit.optimizers.names import GONE, package_of
from trainkit.optimizers.state import load_state_tensors, state_tensors

ALL = {"optim_target_modules": "all-linear"}
CASES: dict[str, dict[str, Any]] = {
    "adamw_torch": {},
    "adamw_torch_fused": {},
    "adafactor": {},
    "sgd": {"learning_rate": 0.3, "optim_args": "momentum=0.9, nesterov=true"},
    "adagrad": {"learning_rate": 0.03},
    "rmsprop": {"optim_args": "momentum=0.5,centered=true"},
    "adamw_bnb_8bit": {},
    "adamw_8bit": {},
    "paged_adamw_32bit": {},
    "paged_adamw_8bit": {},
    "ademamix": {},
    "ademamix_8bit": {"optim_args": "alpha=2.0"},
    "paged_ademamix_32bit": {},
    "paged_ademamix_8bit": {},
    "lion_8bit": {"learning_rate": 0.001},
    "lion_32bit": {"learning_rate": 0.001},
    "paged_lion_32bit": {"learning_rate": 0.001},
    "paged_lion_8bit": {"learning_rate": 0.001},
    "rmsprop_bnb": {"optim_args": "alpha=0.9"},
    "rmsprop_bnb_8bit": {},
    "rmsprop_bnb_32bit": {},
    "schedule_free_adamw": {"learning_rate": 0.01, "warmup_steps": 2},
    "schedule_free_radam": {"learning_rate": 0.01, "adam_beta2": 0.9},
    "schedule_free_sgd": {"learning_rate": 1.0},
    "grokadamw": {"optim_args": "lamb=1.0"},
    "stable_adamw": {"optim_args": "decouple_lr=false"},
    "lomo": {"learning_rate": 0.3},
    "galore_adamw": {**ALL, "optim_args": "rank=4,update_proj_gap=3,scale=1.0", "learning_rate": 0.01},
    "galore_adafactor": {**ALL, "optim_args": "rank=4,update_proj_gap=3,scale=1.0", "learning_rate": 0.01},
    "galore_adamw_layerwise": {**ALL, "optim_args": "rank=4,update_proj_gap=3,scale=1.0", "learning_rate": 0.01},
    "galore_adafactor_layerwise": {**ALL, "optim_args": "rank=4,update_proj_gap=3,scale=1.0", "learning_rate": 0.01},
    "apollo_adamw": {**ALL, "optim_args": "rank=4,update_proj_gap=3", "learning_rate": 0.01},
    "apollo_adamw_layerwise": {**ALL, "optim_args": "rank=4,update_proj_gap=3,proj=svd", "learning_rate": 0.01},
}
GALORE = {"use_galore": True, "galore_rank": 4, "galore_update_interval": 3, "learning_rate": 0.01}
APOLLO = {"use_apollo": True, "apollo_rank": 4, "apollo_update_interval": 3}
BADAM = {"use_badam": True, "badam_switch_interval": 4, "learning_rate": 0.01}
CHOSEN: dict[str, dict[str, Any]] = {
    "galore": GALORE,
    "galore full": {**GALORE, "galore_proj_type": "full"},
    "galore adafactor": {**GALORE, "optim": "adafactor"},
    "galore layerwise": {**GALORE, "galore_layerwise": True},
    "apollo": APOLLO,
    "apollo tensor": {**APOLLO, "apollo_scale_type": "tensor", "apollo_scale_front": True, "apollo_proj": "svd"},
    "apollo layerwise": {**APOLLO, "apollo_layerwise": True},
    "badam": BADAM,
    "badam random": {**BADAM, "badam_switch_mode": "random"},
    "badam descending": {**BADAM, "badam_switch_mode": "descending", "badam_start_block": 0},
    "badam ratio": {**BADAM, "badam_mode": "ratio", "badam_update_ratio": 0.3},
    "badam scatter": {**BADAM, "badam_mode": "ratio", "badam_update_ratio": 0.3, "badam_mask_mode": "scatter"},
    "adam_mini": {"use_adam_mini": True},
    "muon": {"use_muon": True},
}
# What runs on other devices, with a compiler, or with a package that no index has.
ELSEWHERE = {
    "adamw_torch_xla": "a TPU",
    "adamw_torch_npu_fused": "an Ascend NPU",
    "adamw_torch_4bit": "a compiler, and a minute",
    "adamw_torch_8bit": "a compiler, and half a minute",
    "adamw_anyprecision": "torchdistx, which is on no index",
    "adalomo": "an NVIDIA GPU",
    "galore_adamw_8bit": "an NVIDIA GPU",
    "galore_adamw_8bit_layerwise": "an NVIDIA GPU",
}
MODULES = {"galore": "galore_torch", "apollo": "apollo_torch", "badam": "badam", "adam_mini": "adam_mini"}


def changes_of(name: str) -> dict[str, Any]:
    """The keys of a case; skips where its package is missing."""
    chosen = name in CHOSEN
    module = MODULES.get(name.split()[0]) if chosen else (package_of(name) or (None,))[0]
    if module and importlib.util.find_spec(module) is None:
        pytest.skip(f"needs {module}")
    return CHOSEN[name] if chosen else {"optim": name, **CASES[name]}


def test_every_name_that_a_config_may_give_is_tried_here_or_said_to_need_another_place() -> None:
    assert {*CASES, *ELSEWHERE, *GONE} == set(key_table()["optim"]["choices"])


def test_every_name_that_transformers_has_may_be_given() -> None:
    from transformers.training_args import OptimizerNames

    assert {name.value for name in OptimizerNames} <= set(key_table()["optim"]["choices"])


@pytest.mark.parametrize("name", [*CASES, *CHOSEN])
def test_weights_move_and_the_loss_falls(name: str) -> None:
    changes = changes_of(name)
    model = qwen2(hidden_size=64 if "8bit" in name else 16)
    optimizer = optimizer_of(model, **changes)
    before = weights(model)
    losses = take_steps(
        model, optimizer, 20, lr=changes.get("learning_rate", 0.003), clip=None if "lomo" in name else 1.0
    )
    assert losses[-1] < losses[0] - 0.02
    assert any(not torch.equal(before[n], p) for n, p in model.named_parameters())


@pytest.mark.parametrize("name", [*CASES, *CHOSEN])
def test_saved_and_loaded_it_goes_on_bit_for_bit(name: str) -> None:
    """Ten steps are five, a file, and five with an optimizer built anew; BAdam changes its block on both sides."""
    changes = changes_of(name)
    lr = changes.get("learning_rate", 0.003)
    size = 64 if "8bit" in name else 16
    torch.manual_seed(1)
    model = qwen2(hidden_size=size)
    trainable = trained(model)
    optimizer = optimizer_of(model, trainable, **changes)
    take_steps(model, optimizer, 5, lr=lr)
    saved = load(save(state_tensors(optimizer, trainable)))
    kept, generator = weights(model), torch.get_rng_state()
    expected = take_steps(model, optimizer, 6, lr=lr)

    again = qwen2(seed=9, hidden_size=size)
    named = trained(again)
    anew = optimizer_of(again, named, **changes)
    with torch.no_grad():
        for name_, parameter in again.named_parameters():
            parameter.copy_(kept[name_])
    load_state_tensors(anew, named, saved)
    torch.set_rng_state(generator)
    assert take_steps(again, anew, 6, lr=lr) == expected
    for (_, one), (_, other) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "name", ["adamw_torch", "adamw_8bit", "adafactor", "stable_adamw", "galore", "badam", "muon", "adam_mini"]
)
def test_bf16_weights_train_and_go_on_too(name: str) -> None:
    changes = changes_of(name)
    models = [qwen2(dtype=torch.bfloat16, hidden_size=64) for _ in range(2)]
    named = [trained(model) for model in models]
    optimizers = [optimizer_of(model, of, **changes) for model, of in zip(models, named, strict=True)]
    losses = take_steps(models[0], optimizers[0], 5)
    assert losses[-1] < losses[0]
    with torch.no_grad():
        for (_, old), (_, new) in zip(*named, strict=True):
            new.copy_(old)
    load_state_tensors(optimizers[1], named[1], state_tensors(optimizers[0], named[0]))
    assert take_steps(models[0], optimizers[0], 5) == take_steps(models[1], optimizers[1], 5)


@pytest.mark.parametrize("name", ["adamw_torch", "adamw_8bit", "adam_mini", "muon"])
def test_adapters_train_with_what_may_train_them(name: str) -> None:
    model = lora(qwen2())
    optimizer = optimizer_of(model, **changes_of(name), finetuning_type="lora")
    losses = take_steps(model, optimizer, 20, lr=0.01)
    assert losses[-1] < losses[0] - 0.02
