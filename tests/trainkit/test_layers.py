"""Which layers are trained, told by the names of the weights."""

from __future__ import annotations

from dataclasses import replace

import pytest

from registry.errors import UsageError
from trainkit.config import MethodConfig, load_config
from trainkit.layers import chosen_layers, layers_of, spread_layers, trained_names

METHOD = load_config({"model_name_or_path": "m", "finetuning_type": "freeze"}).method
PARTS = ("self_attn.q_proj.weight", "self_attn.q_proj.bias", "mlp.up_proj.weight", "norm.weight")
NAMES = [
    "model.embed_tokens.weight",
    *(f"model.layers.{layer}.{part}" for layer in range(12) for part in PARTS),
    "model.norm.weight",
    "lm_head.weight",
]


def method(**changes: object) -> MethodConfig:
    return replace(METHOD, **changes)  # type: ignore[arg-type]


def trained(**changes: object) -> list[str]:
    return [name.removeprefix("model.") for name in trained_names(NAMES, method(**changes), 12)]


def test_the_longest_list_of_numbered_modules_is_that_of_the_layers() -> None:
    found = layers_of(NAMES)
    assert (found.path, found.count, len(found.inner)) == ("model.layers", 12, 48)
    assert found.inner["model.layers.10.norm.weight"] == (10, "norm.weight")
    assert found.outer == ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")


def test_a_tower_of_more_layers_is_told_apart_by_the_number_in_the_config() -> None:
    tower = [f"vision.blocks.{n}.weight" for n in range(30)] + NAMES
    assert (layers_of(tower).path, layers_of(tower, 12).path) == ("vision.blocks", "model.layers")
    with pytest.raises(UsageError, match=r"config.json names 8 layers, and the weights have 30 of vision.blocks, 12"):
        layers_of(tower, 8)
    with pytest.raises(UsageError, match="the model has no numbered layers"):
        layers_of(["embed.weight"])


def test_experts_within_a_layer_are_no_layers() -> None:
    names = [f"h.{layer}.mlp.experts.{expert}.weight" for layer in range(2) for expert in range(8)]
    assert (layers_of(names).path, layers_of(names).count) == ("h", 2)


@pytest.mark.parametrize(
    ("asked", "found"), [(2, [10, 11]), (-3, [0, 1, 2]), (12, list(range(12))), (-12, list(range(12)))]
)
def test_layers_are_counted_from_the_end_and_below_zero_from_the_start(asked: int, found: list[int]) -> None:
    assert chosen_layers(12, method(freeze_trainable_layers=asked)) == found


@pytest.mark.parametrize("asked", [0, 13, -13])
def test_more_layers_than_there_are_and_none_are_refused(asked: int) -> None:
    with pytest.raises(
        UsageError, match=rf"freeze_trainable_layers is {asked}, and the model has 12 layers\n  Write 1 to"
    ):
        chosen_layers(12, method(freeze_trainable_layers=asked))


def test_llama_pro_trains_the_last_layer_of_each_group() -> None:
    assert spread_layers(40, 8) == [4, 9, 14, 19, 24, 29, 34, 39]  # 32 layers expanded by 8, one after every four
    assert spread_layers(12, 12) == list(range(12))
    with pytest.raises(UsageError, match="12 layers do not divide into 5 equal groups"):
        spread_layers(12, 5)


def test_of_the_chosen_layers_all_modules_are_trained_or_the_named_ones_and_outside_those_named_extra() -> None:
    assert trained(freeze_trainable_layers=1) == [f"layers.11.{part}" for part in PARTS]
    named = trained(freeze_trainable_layers=-1, freeze_trainable_modules=("self_attn",))
    assert named == ["layers.0.self_attn.q_proj.weight", "layers.0.self_attn.q_proj.bias"]
    both = trained(
        freeze_trainable_layers=1, freeze_trainable_modules=("mlp", "norm"), freeze_extra_modules=("embed_tokens",)
    )
    assert both == ["layers.11.mlp.up_proj.weight", "layers.11.norm.weight", "embed_tokens.weight"]
    assert (
        trained(freeze_trainable_layers=1, freeze_trainable_modules=("q_proj",))[0]
        == "layers.11.self_attn.q_proj.weight"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"freeze_trainable_modules": ("mlp", "self_atn")},
            "freeze_trainable_modules names no module of this model: self_atn\n  There is: mlp, norm, q_proj, self_attn, "
            'up_proj. Did you mean "self_attn"?',
        ),
        (
            {"freeze_extra_modules": ("self_attn",)},
            "freeze_extra_modules names no module of this model: self_attn\n  There is: embed_tokens, lm_head, model, norm.",
        ),
    ],
)
def test_modules_that_are_not_there_are_told_with_those_that_are(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        trained(**changes)
    assert str(caught.value) == message
