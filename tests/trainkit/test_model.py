"""A config's model: what is trained, what gets an adapter, and a tokenizer that agrees with ours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from registry.errors import UsageError
from registry.tokenizer import Tokenizer, open_tokenizer
from trainkit.config import load_config
from trainkit.model import (
    check_agreement,
    check_room,
    load_base,
    load_hf_tokenizer,
    load_trainable,
    lora_targets,
    prepare_trainable,
    tokenizer_to_save,
)

Settings = Callable[..., dict[str, Any]]
LINEAR = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


def trainable(keys: dict[str, Any]) -> nn.Module:
    config = load_config(keys)
    return load_trainable(config.model, config.method, bf16=False, device=torch.device("cpu"))


@pytest.fixture
def base(settings: Settings) -> nn.Module:
    return load_base(load_config(settings()).model, torch.float32)


def test_all_is_every_linear_layer_but_the_head(base: nn.Module) -> None:
    assert lora_targets(base, ["all"]) == LINEAR


def test_a_target_that_is_not_there_is_refused_with_what_there_is(base: nn.Module) -> None:
    with pytest.raises(UsageError, match=f"names no module of this model: query\n  It has: {', '.join(LINEAR)}"):
        lora_targets(base, ["q_proj", "query"])


def test_full_training_trains_every_weight_and_lora_the_adapter_alone(settings: Settings) -> None:
    full = trainable(settings())
    assert {name for name, _ in prepare_trainable(full)} == {name for name, _ in full.named_parameters()}
    lora = prepare_trainable(trainable(settings(finetuning_type="lora", lora_rank=3, lora_target="q_proj,v_proj")))
    assert len(lora) == 2 * 2 * 2  # layers, targets, A and B
    assert all("lora_" in name for name, _ in lora)
    assert {3} == {min(p.shape) for _, p in lora}


@pytest.mark.parametrize(("alpha", "scale"), [(None, 2.0), (4, 0.5)])
def test_the_scale_is_alpha_over_rank_and_alpha_twice_the_rank_by_itself(
    settings: Settings, alpha: int | None, scale: float
) -> None:
    model = trainable(settings(finetuning_type="lora", lora_rank=8, lora_alpha=alpha))
    assert {m.scaling["default"] for m in model.modules() if hasattr(m, "lora_A") and m.scaling} == {scale}


def test_the_same_seed_draws_the_same_adapter(settings: Settings) -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(5)
        drawn.append(
            torch.cat([p.flatten() for _, p in prepare_trainable(trainable(settings(finetuning_type="lora")))])
        )
    assert torch.equal(*drawn)


def test_trained_weights_are_float32_whatever_they_were(base: nn.Module) -> None:
    assert {p.dtype for _, p in prepare_trainable(base.bfloat16())} == {torch.float32}


def test_a_tokenizer_with_more_ids_than_the_model_has_rows_names_the_new_ones(
    base: nn.Module, model_folder: Path
) -> None:
    tokenizer, _ = open_tokenizer(model_folder, "qwen3_nothink")
    check_room(base, tokenizer)
    base.resize_token_embeddings(tokenizer.size - 1)
    with pytest.raises(
        UsageError, match=rf"the tokenizer has {tokenizer.size} ids, the model only {tokenizer.size - 1} rows"
    ):
        check_room(base, tokenizer)
    adding, _ = open_tokenizer(model_folder, "llama3")
    with pytest.raises(
        UsageError, match=r"The template adds: <\|eot_id\|>, <\|eom_id\|>\.\n  Choose the template that belongs"
    ):
        check_room(base, adding)


def test_two_tokenizers_that_disagree_are_not_trained_with(
    settings: Settings, model_folder: Path, tmp_path: Path
) -> None:
    theirs = load_hf_tokenizer(load_config(settings()).model)
    check_agreement(Tokenizer(model_folder), theirs)
    other = tmp_path / "other"
    shutil.copytree(model_folder, other)
    raw = json.loads((other / "tokenizer.json").read_text("utf-8"))
    raw["model"]["merges"] = raw["model"]["merges"][:-40]
    (other / "tokenizer.json").write_text(json.dumps(raw), "utf-8")
    with pytest.raises(UsageError, match=r"disagree on .*\n  Save the tokenizer again"):
        check_agreement(Tokenizer(other), theirs)


def test_what_is_saved_carries_the_stop_words_the_end_and_the_template(
    settings: Settings, model_folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    ours, _ = open_tokenizer(model_folder, "llama3")
    tokenizer_to_save(load_config(settings()).model, ours, model_folder, "{{ messages }}").save_pretrained(tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    assert (saved.eos_token, saved.chat_template, saved.padding_side) == ("<|eot_id|>", "{{ messages }}", "right")
    assert saved.convert_tokens_to_ids(["<|eot_id|>", "<|eom_id|>"]) == [
        ours.token_id("<|eot_id|>"),
        ours.token_id("<|eom_id|>"),
    ]
    assert saved("a<|eot_id|>b", add_special_tokens=False)["input_ids"] == ours.encode_batch(["a<|eot_id|>b"])[0]


def test_weights_that_cannot_be_read_are_told_in_a_line(settings: Settings, model_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model_folder, broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UsageError, match="cannot be loaded: "):
        load_base(load_config(settings(model_name_or_path=str(broken))).model, torch.float32)


@pytest.mark.parametrize("attention", ["disabled", "sdpa"])
def test_the_attention_asked_for_is_the_one_loaded(settings: Settings, attention: str) -> None:
    model = load_base(load_config(settings(flash_attn=attention)).model, torch.float32)
    assert model.config._attn_implementation == {"disabled": "eager", "sdpa": "sdpa"}[attention]
