"""A config's model: its weights as they were asked for, and a tokenizer that agrees with ours."""

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
    tokenizer_to_save,
)

Settings = Callable[..., dict[str, Any]]


@pytest.fixture
def base(settings: Settings) -> nn.Module:
    return load_base(load_config(settings()).model, torch.float32)


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
