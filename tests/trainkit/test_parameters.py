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
from trainkit.parameters import Parameters, blocks_of, count_parameters, linear_targets, weight_shapes

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
        {"finetuning_type": "lora", "pissa_init": True, "use_llama_pro": True, "freeze_trainable_layers": 1},
        {"finetuning_type": "freeze", "freeze_trainable_layers": 1},
        {"finetuning_type": "freeze", "freeze_trainable_modules": "mlp", "freeze_extra_modules": "norm,lm_head"},
        {"finetuning_type": "freeze", "freeze_extra_modules": "lm_head,embed_tokens"},
        {"finetuning_type": "freeze", "freeze_trainable_layers": 1, "use_llama_pro": True},
        {"finetuning_type": "oft"},
        {"finetuning_type": "oft", "oft_block_size": 24, "oft_target": "q_proj,down_proj"},
        {"finetuning_type": "oft", "oft_rank": 4, "oft_block_size": 0, "additional_target": "embed_tokens"},
    ],
    ids=[
        "full",
        "all linear layers",
        "two of them",
        "dora",
        "and one whole",
        "lora in added blocks",
        "one layer",
        "some modules",
        "a tied head by both names",
        "added blocks",
        "oft",
        "blocks that do not divide",
        "oft by rank, and one whole",
    ],
)
def test_the_counts_are_those_of_the_loaded_model(settings: Callable[..., Any], keys: dict[str, Any]) -> None:
    config = load_config(settings(**keys))
    model = load_trainable(config.model, config.method, bf16=False, device=torch.device("cpu"))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    assert count_parameters(config.model, config.method) == Parameters(total, trained)


@pytest.mark.parametrize(("bit", "method"), [(4, "lora"), (8, "oft")])
def test_a_base_that_is_quantised_while_it_loads_counts_its_weights_and_not_their_bytes(
    settings: Callable[..., Any], bit: int, method: str
) -> None:
    from trainkit.quantize import num_weights

    pytest.importorskip("bitsandbytes")
    config = load_config(settings(finetuning_type=method, quantization_bit=bit))
    model = load_trainable(config.model, config.method, bf16=False, device=torch.device("cpu"))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(num_weights(p) for p in model.parameters())
    assert count_parameters(config.model, config.method) == Parameters(total, trained)


def test_layers_that_are_not_there_are_the_reason_why_nothing_is_counted(settings: Callable[..., Any]) -> None:
    config = load_config(settings(finetuning_type="freeze", freeze_trainable_layers=9))
    found = count_parameters(config.model, config.method)
    assert (found.trainable, found.why) == (None, "freeze_trainable_layers is 9, and the model has 2 layers")


@pytest.mark.parametrize(
    ("width", "rank", "size", "found"),
    [
        (32, 0, 8, (4, 8)),
        (32, 4, 0, (4, 8)),
        (32, 0, 64, (1, 32)),
        (88, 0, 32, (4, 22)),
        (88, 0, 10, (8, 11)),
        (7, 3, 0, (1, 7)),
    ],
)
def test_the_blocks_are_those_that_peft_takes(width: int, rank: int, size: int, found: tuple[int, int]) -> None:
    from peft.tuners.oft.config import OFTConfig
    from peft.tuners.oft.layer import Linear

    layer = Linear(torch.nn.Linear(width, 3), "default", OFTConfig(r=rank, oft_block_size=size), r=rank)
    assert blocks_of(width, rank, size) == (layer.r["default"], layer.oft_block_size["default"]) == found


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
