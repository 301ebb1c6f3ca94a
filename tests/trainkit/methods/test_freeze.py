"""Full and freeze training: which weights of the base itself are trained, and in what type each is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from registry.errors import UsageError
from tests.trainkit.methods.models import load, logits, nudge, save, trained_names

Settings = Callable[..., dict[str, Any]]


@pytest.fixture
def freeze(settings: Settings) -> Settings:
    return lambda **changes: settings(finetuning_type="freeze", **{"freeze_trainable_layers": 1, **changes})


def test_full_training_trains_every_weight(settings: Settings) -> None:
    model = load(settings())
    assert trained_names(model) == [name for name, _ in model.named_parameters()]


def test_the_chosen_layer_is_trained_and_nothing_else(freeze: Settings) -> None:
    names = trained_names(load(freeze()))
    assert len(names) == 12  # q, k, v with biases, o, three of the mlp, two norms
    assert all(name.startswith("model.layers.1.") for name in names)
    assert {name.split(".")[2] for name in trained_names(load(freeze(freeze_trainable_layers=-1)))} == {"0"}


def test_llama_pro_trains_one_layer_of_each_group(freeze: Settings) -> None:
    assert {name.split(".")[2] for name in trained_names(load(freeze(use_llama_pro=True)))} == {"1"}
    both = trained_names(load(freeze(use_llama_pro=True, freeze_trainable_layers=2)))
    assert {name.split(".")[2] for name in both} == {"0", "1"}


def test_a_tied_head_is_asked_for_by_either_name(freeze: Settings) -> None:
    model = load(freeze(freeze_extra_modules="lm_head"))
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert trained_names(model)[0] == "model.embed_tokens.weight"


def test_more_layers_than_the_model_has_are_refused(freeze: Settings) -> None:
    with pytest.raises(UsageError, match="freeze_trainable_layers is 3, and the model has 2 layers"):
        load(freeze(freeze_trainable_layers=3))


def test_trained_weights_are_in_fp32_frozen_ones_in_bf16_where_it_computes_in_that(freeze: Settings) -> None:
    model = load(freeze(bf16=True))
    kept = {(parameter.requires_grad, parameter.dtype) for parameter in model.parameters()}
    assert kept == {(True, torch.float32), (False, torch.bfloat16)}
    kept = {(p.requires_grad, p.ndim, p.dtype) for p in load(freeze(bf16=True, upcast_layernorm=True)).parameters()}
    assert {(False, 1, torch.float32), (False, 2, torch.bfloat16)} <= kept
    assert {p.dtype for p in load(freeze()).parameters()} == {torch.float32}


def test_pure_bf16_keeps_every_weight_in_bf16(settings: Settings) -> None:
    assert {p.dtype for p in load(settings(pure_bf16=True)).parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("changes", [{}, {"bf16": True}, {"pure_bf16": True}])
def test_what_is_saved_is_loaded_again_bit_for_bit(freeze: Settings, tmp_path: Path, changes: dict[str, Any]) -> None:
    model = nudge(load(freeze(**changes)))
    save(model, tmp_path / "saved")
    again = load(freeze(**changes), resumed=tmp_path / "saved")
    assert trained_names(again) == trained_names(model)
    for (name, one), (_, other) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert one.dtype == other.dtype, name
        assert torch.equal(one, other), name
    with torch.autocast("cpu", torch.bfloat16, enabled=bool(changes)):
        assert torch.equal(logits(model), logits(again))
