"""Adapters that were trained before: whether they belong to the model, and what merging does to shared weights."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from registry.errors import UsageError
from tests.trainkit.methods.models import load, logits, nudge, save
from trainkit.config import load_config
from trainkit.methods.adapters import check_fits, merge_adapters, put_on, warn_of_other_bases
from trainkit.model import load_base

Settings = Callable[..., dict[str, Any]]


@pytest.fixture
def base(settings: Settings) -> nn.Module:
    return load_base(load_config(settings()).model, torch.float32).eval()


@pytest.fixture
def wide_folder(tmp_path: Path) -> Path:
    """A model of the same kind with other sizes: 64 wide instead of 32."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    sizes: dict[str, Any] = {
        "vocab_size": 400,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    }
    Qwen2ForCausalLM(Qwen2Config(**sizes, num_key_value_heads=2)).save_pretrained(tmp_path / "wide")
    return tmp_path / "wide"


def test_an_adapter_of_another_model_is_told_by_module_and_sizes(
    settings: Settings, wide_folder: Path, tmp_path: Path
) -> None:
    keys = settings(finetuning_type="lora", lora_target="q_proj,down_proj")
    folder = save(load({**keys, "model_name_or_path": str(wide_folder)}), tmp_path / "adapter")
    with pytest.raises(UsageError) as caught:
        load({**keys, "adapter_name_or_path": folder})
    assert str(caught.value) == (
        f"{folder}: the adapter belongs to another model: model.layers.0.mlp.down_proj has 32 outputs, the adapter's 64; "
        "model.layers.0.self_attn.q_proj takes 32 inputs, the adapter's 64; model.layers.0.self_attn.q_proj has 32 outputs, "
        "the adapter's 64 and 7 more\n  Name the model that it was trained on as model_name_or_path."
    )


def test_an_adapter_for_layers_that_are_not_there_is_told(base: nn.Module, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    name = "base_model.model.model.layers.7.self_attn.q_proj.oft_R.weight"
    save_file({name: torch.zeros(4, 28)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UsageError, match=r"model\.layers\.7\.self_attn\.q_proj is not there"):
        check_fits(base, tmp_path)


def test_an_adapter_of_another_kind_is_told_with_the_key_to_write(settings: Settings, tmp_path: Path) -> None:
    folder = save(load(settings(finetuning_type="lora")), tmp_path / "adapter")
    with pytest.raises(
        UsageError, match="this is an adapter of kind lora, and finetuning_type is oft\n  Write finetuning_type: lora"
    ):
        load(settings(finetuning_type="oft", adapter_name_or_path=folder))


def test_a_config_that_is_none_is_told(settings: Settings, tmp_path: Path) -> None:
    folder = Path(save(load(settings(finetuning_type="lora")), tmp_path / "adapter"))
    (folder / "adapter_config.json").write_text('{"r": 8}')
    with pytest.raises(UsageError, match=r"adapter_config.json is none that peft reads: 'peft_type'"):
        load(settings(finetuning_type="lora", adapter_name_or_path=str(folder)))


def test_an_adapter_whose_base_has_another_name_is_warned_of_and_loaded(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(save(load(settings(finetuning_type="lora")), tmp_path / "adapter"))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "org/another"}))
    with caplog.at_level(logging.WARNING, logger="tunekit"):
        load(settings(finetuning_type="lora", adapter_name_or_path=str(folder)))
    assert f"{folder} was trained on org/another, and is put on" in caplog.text
    caplog.clear()
    warn_of_other_bases("org/another", [str(folder)])
    assert caplog.text == ""


@pytest.mark.parametrize("targets", ["lm_head", "q_proj,embed_tokens"])
def test_an_adapter_on_one_of_two_tied_weights_is_merged_into_that_one_alone(
    settings: Settings, base: nn.Module, tmp_path: Path, targets: str
) -> None:
    model = nudge(load(settings(finetuning_type="lora", lora_target=targets)))
    folder, said = save(model, tmp_path / "adapter"), logits(model)
    assert torch.equal(logits(put_on(load_base(load_config(settings()).model, torch.float32), folder).eval()), said)
    merged = merge_adapters(base, [folder]).eval()
    torch.testing.assert_close(logits(merged), said, rtol=0, atol=1e-5)
    merged.save_pretrained(tmp_path / "merged")  # type: ignore[operator]
    keys = {**settings(), "model_name_or_path": str(tmp_path / "merged")}
    again = load_base(load_config(keys).model, torch.float32).eval()
    torch.testing.assert_close(logits(again), said, rtol=0, atol=1e-5)
    assert (again.get_input_embeddings().weight != again.get_output_embeddings().weight).any()  # type: ignore[operator, union-attr]


def test_embeddings_that_were_trained_whole_go_on_being_the_head_when_merged(
    settings: Settings, base: nn.Module, tmp_path: Path
) -> None:
    model = nudge(load(settings(finetuning_type="lora", additional_target="embed_tokens")))
    merged = merge_adapters(base, [save(model, tmp_path / "adapter")]).eval()
    merged.save_pretrained(tmp_path / "merged")  # type: ignore[operator]
    keys = {**settings(), "model_name_or_path": str(tmp_path / "merged")}
    again = load_base(load_config(keys).model, torch.float32).eval()
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=1e-5)
    assert again.get_input_embeddings().weight is again.get_output_embeddings().weight  # type: ignore[operator, union-attr]
