"""Every method in a run: it learns, and a run that was stopped goes on to the same weights as one that was not."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.trainkit.conftest import read_log

Run = Callable[..., Any]
METHODS: dict[str, dict[str, Any]] = {
    "freeze": {"finetuning_type": "freeze", "freeze_trainable_layers": 1, "bf16": True},
    "llama pro": {"finetuning_type": "freeze", "freeze_trainable_layers": 1, "use_llama_pro": True, "pure_bf16": True},
    "oft": {"finetuning_type": "oft", "oft_block_size": 8, "module_dropout": 0.3},
    "pissa": {"finetuning_type": "lora", "pissa_init": True, "pissa_convert": True},
    "dora": {"finetuning_type": "lora", "use_dora": True, "additional_target": "embed_tokens"},
    "qlora": {"finetuning_type": "lora", "quantization_bit": 4, "bf16": True, "upcast_layernorm": True},
    "qoft": {"finetuning_type": "oft", "oft_block_size": 8, "quantization_bit": 8},
}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = [p for p in folder.glob("*.safetensors") if p.name in ("adapter_model.safetensors", "model.safetensors")]
    return load_file(path)


@pytest.mark.parametrize("name", METHODS)
def test_a_run_learns_and_goes_on_bit_for_bit_after_it_was_stopped(
    trainkit: Run, config_file: Run, stop_after_five: Run, tmp_path: Path, name: str
) -> None:
    keys = METHODS[name]
    if "quantization_bit" in keys and importlib.util.find_spec("bitsandbytes") is None:
        pytest.skip("needs bitsandbytes (pip install bitsandbytes)")
    keys = {**keys, "max_steps": 7, "save_strategy": "steps", "save_steps": 3, "learning_rate": 0.01}
    ran = trainkit("run", config_file(**keys))
    assert ran.code == 0, ran.err
    losses = [line["loss"] for line in read_log(tmp_path / "out") if "loss" in line]
    assert losses[-1] < losses[0]
    path = config_file(name="again.yaml", **{**keys, "output_dir": str(tmp_path / "stopped")})
    stop_after_five(path)
    assert trainkit("run", path).code == 0
    once, twice = weights(tmp_path / "out"), weights(tmp_path / "stopped")
    assert once.keys() == twice.keys()
    assert [key for key in once if not torch.equal(once[key], twice[key])] == []
    if name == "pissa":
        assert (tmp_path / "out" / "pissa_converted" / "adapter_model.safetensors").is_file()
