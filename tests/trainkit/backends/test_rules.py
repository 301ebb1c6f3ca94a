"""Which backend a config asks for, and what does not go with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from registry.errors import Faults, UsageError
from tests.trainkit.backends.standin import Objective, Setup, config_of, make_model
from trainkit.backends import choose_backend, open_backend
from trainkit.backends.fsdp2 import sharded_layers
from trainkit.backends.process_group import Group
from trainkit.backends.rules import backend_faults
from trainkit.place import Place

ZERO_3 = {"zero_optimization": {"stage": 3}}


@pytest.mark.parametrize(
    ("keys", "world_size", "name"),
    [
        ({}, 1, "single"),
        ({}, 2, "ddp"),
        ({"fsdp": "full_shard"}, 2, "fsdp2"),
        ({"fsdp": True}, 1, "fsdp2"),
        ({"fsdp": False}, 2, "ddp"),
        ({"fsdp": ""}, 1, "single"),
        ({"deepspeed": ZERO_3}, 1, "deepspeed"),
        ({"deepspeed": ZERO_3}, 2, "deepspeed"),
    ],
)
def test_the_backend_follows_from_keys_and_processes(keys: dict[str, Any], world_size: int, name: str) -> None:
    assert choose_backend(config_of(Setup(keys=keys)).backend, world_size) == name


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"deepspeed": ZERO_3, "fsdp": "full_shard"}, "exclude each other"),
        ({"deepspeed": ZERO_3, "optim": "adafactor"}, "looks at whole weights"),
        ({"fsdp": "full_shard", "optim": "adamw_8bit"}, "looks at whole weights"),
        ({"fsdp": "full_shard", "use_muon": True}, '"use_muon" looks at whole weights'),
        ({"deepspeed": ZERO_3, "use_galore": True}, '"use_galore" looks at whole weights'),
    ],
)
def test_keys_that_exclude_each_other(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(Faults, match=told):
        config_of(Setup(keys=keys))


@pytest.mark.parametrize(
    ("keys", "world_size", "told"),
    [
        ({"deepspeed": {"train_batch_size": 12}}, 2, '"train_batch_size" is 12'),
        ({"deepspeed": {"train_batch_size": 12}}, None, "a multiple of 8"),
        ({"deepspeed": "nowhere.json"}, None, "No such file"),
        ({"deepspeed": {"zero_optimization": {"stage": 2, "reduce_size": "auto"}}}, 2, "is not known for"),
        ({"deepspeed": ZERO_3, "pure_bf16": True}, 2, '"pure_bf16" does not go with ZeRO-3'),
        ({"deepspeed": ZERO_3, "finetuning_type": "lora", "quantization_bit": 4}, 2, '"quantization_bit" does not go'),
        ({"fsdp": "full_shart"}, 2, 'Did you mean "full_shard"'),
    ],
)
def test_files_and_sizes_that_contradict_the_run(keys: dict[str, Any], world_size: int | None, told: str) -> None:
    faults = backend_faults(config_of(Setup(keys=keys)), world_size)
    assert len(faults) == 1
    assert told in faults[0]


def test_offloading_needs_a_device() -> None:
    group = Group(Place(), device=torch.device("cpu"))
    with pytest.raises(UsageError, match="needs a device"):
        open_backend(config_of(Setup(keys={"fsdp": "full_shard offload"})), group)


def test_layers_are_those_that_the_model_names() -> None:
    objective = Objective(make_model(Setup()), v_head=False)
    assert len(sharded_layers(objective, ())) == 2
    assert len(sharded_layers(objective, ("Qwen2MLP",))) == 2
    with pytest.raises(UsageError, match="none is a LlamaDecoderLayer") as found:
        sharded_layers(objective, ("LlamaDecoderLayer",))
    assert "Qwen2DecoderLayer" in str(found.value)
