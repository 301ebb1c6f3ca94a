"""Parameters are counted from the heads of the weights' files, and agree with the model that is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from registry.errors import UsageError
from trainkit.config import load_config
from trainkit.model import load_trainable
from trainkit.parameters import Parameters, count_parameters, linear_targets, weight_shapes

SHAPES = {
    "model.embed_tokens.weight": [100, 8],
    "model.an_embedding_of_another_name.weight": [100, 8],
    "model.layers.0.self_attn.q_proj.weight": [8, 8],
    "model.layers.0.self_attn.q_proj.bias": [8],
    "model.layers.0.mlp.up_proj.weight": [16, 8],
    "model.norm.weight": [8],
    "lm_head.weight": [100, 8],
}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"finetuning_type": "lora"},
        {"finetuning_type": "lora", "lora_rank": 3, "lora_target": "q_proj,up_proj"},
        {"finetuning_type": "lora", "use_dora": True},
        {"finetuning_type": "lora", "additional_target": "embed_tokens"},
    ],
    ids=["full", "all linear layers", "two of them", "dora", "and one whole"],
)
def test_the_counts_are_those_of_the_loaded_model(settings: Callable[..., Any], keys: dict[str, Any]) -> None:
    config = load_config(settings(**keys))
    model = load_trainable(config.model, config.method, bf16=False, device=torch.device("cpu"))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    assert count_parameters(config.model, config.method) == Parameters(total, trained)


def test_all_means_every_linear_layer_but_embeddings_and_head() -> None:
    assert list(linear_targets(SHAPES, ("all",), 100)) == [
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.mlp.up_proj",
    ]
    assert list(linear_targets(SHAPES, ("up_proj",), 100)) == ["model.layers.0.mlp.up_proj"]
    assert linear_targets(SHAPES, ("p_proj",), 100) == {}


def test_a_continued_adapter_is_counted_from_its_own_file(settings: Callable[..., Any], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "adapter").mkdir()
    save_file({"a": torch.zeros(4, 8), "b": torch.zeros(8, 4)}, tmp_path / "adapter" / "adapter_model.safetensors")
    config = load_config(settings(finetuning_type="lora", adapter_name_or_path=str(tmp_path / "adapter")))
    assert count_parameters(config.model, config.method).trainable == 64


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"num_experts": 8}, "which layers of a mixture of experts get an adapter is known when it is loaded"),
        (
            {"quantization_config": {"bits": 4}},
            "the weights are quantised, and their files do not tell how many there are",
        ),
    ],
)
def test_what_the_files_do_not_tell_is_left_out_with_the_reason(
    settings: Callable[..., Any], model_folder: Path, tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    held = json.loads((model_folder / "config.json").read_text("utf-8")) | changes
    (tmp_path / "config.json").write_text(json.dumps(held), "utf-8")
    (tmp_path / "model.safetensors").write_bytes((model_folder / "model.safetensors").read_bytes())
    config = load_config(settings(finetuning_type="lora", model_name_or_path=str(tmp_path)))
    found = count_parameters(config.model, config.method)
    assert (found.trainable, found.why) == (None, why)


def test_a_hub_id_is_not_counted(settings: Callable[..., Any]) -> None:
    config = load_config(settings(model_name_or_path="org/model"))
    assert count_parameters(config.model, config.method) == Parameters(
        None, None, "the weights are not on this machine"
    )


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(UsageError, match=r"model\.safetensors: the weights cannot be read: its head is too long"):
        weight_shapes(tmp_path)
