"""LoRA: what gets an adapter, how it is scaled, and that merging, saving and loading say what was trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from registry.errors import UsageError
from tests.trainkit.methods.models import load, logits, nudge, save, trained_names
from trainkit.config import load_config
from trainkit.methods.adapters import merge_adapters
from trainkit.methods.targets import adapter_targets
from trainkit.model import load_base, prepare_trainable

Settings = Callable[..., dict[str, Any]]
LINEAR = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
VARIANTS: list[dict[str, Any]] = [
    {},
    {"use_rslora": True},
    {"use_dora": True},
    {"pissa_init": True},
    {"pissa_init": True, "pissa_iter": -1, "use_rslora": True},
    {"pissa_init": True, "use_dora": True},
    {"additional_target": "embed_tokens"},
]


@pytest.fixture
def lora(settings: Settings) -> Settings:
    return lambda **changes: settings(finetuning_type="lora", lora_rank=4, **changes)


@pytest.fixture
def base(settings: Settings) -> nn.Module:
    return load_base(load_config(settings()).model, torch.float32).eval()


def test_all_is_every_linear_layer_but_the_head(base: nn.Module) -> None:
    assert adapter_targets(base, ["all"]) == LINEAR


def test_embeddings_and_the_head_can_be_named(base: nn.Module) -> None:
    assert adapter_targets(base, ["q_proj", "embed_tokens"]) == ["q_proj", "embed_tokens"]
    assert adapter_targets(base, ["lm_head", "layers.1.mlp.up_proj"]) == ["lm_head", "layers.1.mlp.up_proj"]


@pytest.mark.parametrize("name", ["query", "proj", "self_attn"])
def test_a_target_that_is_not_there_is_refused_with_what_there_is(base: nn.Module, name: str) -> None:
    with pytest.raises(
        UsageError, match=f"lora_target names no module of this model: {name}\n  It has: {', '.join(LINEAR)}"
    ):
        adapter_targets(base, ["q_proj", name])


def test_the_layers_of_gpt2_are_linear_though_they_are_of_a_class_of_their_own() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from trainkit.methods.lora import attach

    tiny = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=8, n_layer=2, n_head=2, n_positions=16))
    assert adapter_targets(tiny, ["all"]) == ["c_attn", "c_fc", "c_proj"]
    method = load_config({"model_name_or_path": "m", "lora_rank": 2, "pissa_init": True}).method
    ids = torch.arange(10)[None]
    before = tiny.eval()(input_ids=ids).logits
    torch.testing.assert_close(attach(tiny, method).eval()(input_ids=ids).logits, before, rtol=0, atol=1e-5)


def test_the_adapter_alone_is_trained(lora: Settings) -> None:
    model = load(lora(lora_target="q_proj,v_proj"))
    names = trained_names(model)
    assert len(names) == 2 * 2 * 2  # layers, targets, A and B
    assert all("lora_" in name for name in names)
    assert {4} == {min(p.shape) for _, p in prepare_trainable(model)}


@pytest.mark.parametrize(
    ("changes", "scale"), [({}, 2.0), ({"lora_alpha": 2}, 0.5), ({"lora_alpha": 2, "use_rslora": True}, 1.0)]
)
def test_the_scale_is_alpha_over_rank_or_its_root_and_alpha_twice_the_rank_by_itself(
    lora: Settings, changes: dict[str, Any], scale: float
) -> None:
    model = load(lora(**changes))
    assert {m.scaling["default"] for m in model.modules() if hasattr(m, "lora_A") and m.scaling} == {scale}


def test_the_same_seed_draws_the_same_adapter(lora: Settings) -> None:
    drawn = [torch.cat([p.flatten() for _, p in prepare_trainable(load(lora()))]) for _ in range(2)]
    assert torch.equal(*drawn)


def test_llama_pro_puts_adapters_into_the_added_blocks_alone(lora: Settings) -> None:
    names = trained_names(load(lora(use_llama_pro=True, freeze_trainable_layers=1)))
    assert len(names) == 7 * 2
    assert all(".layers.1." in name for name in names)


@pytest.mark.parametrize("rank", [0, -1])
def test_a_rank_below_one_is_refused(lora: Settings, rank: int) -> None:
    with pytest.raises(Exception, match=f'"lora_rank": is {rank}, and must be at least 1'):
        load_config({**lora(), "lora_rank": rank})


def test_an_additional_target_that_is_not_there_is_refused(lora: Settings) -> None:
    with pytest.raises(
        UsageError, match='additional_target names no module of this model: embed_token\n  Did you mean "emb'
    ):
        load(lora(additional_target="embed_token"))


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_a_fresh_adapter_says_what_the_base_says(lora: Settings, base: nn.Module, changes: dict[str, Any]) -> None:
    torch.testing.assert_close(logits(load(lora(**changes))), logits(base), rtol=0, atol=1e-5)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_a_trained_adapter_is_loaded_resumed_and_merged_as_it_was(
    lora: Settings, tmp_path: Path, changes: dict[str, Any]
) -> None:
    from trainkit.methods.pissa import keep_initial

    fresh = load(lora(**changes))
    keep_initial(fresh, tmp_path)
    model = nudge(fresh)
    folder = save(model, tmp_path / "checkpoint-3")
    said = logits(model)
    assert float((said - logits(load(lora(**changes)))).abs().max()) > 1e-3  # it says something of its own
    assert torch.equal(logits(load(lora(**changes), resumed=tmp_path / "checkpoint-3")), said)
    continued = load(lora(adapter_name_or_path=folder))
    assert torch.equal(logits(continued), said)
    assert trained_names(continued) == trained_names(model)
    merged = merge_adapters(load_base(load_config(lora()).model, torch.float32), [folder]).eval()
    torch.testing.assert_close(logits(merged), said, rtol=0, atol=1e-5)
    for one, other in zip(model.parameters(), load(lora(**changes), resumed=Path(folder)).parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "changes", [{}, {"additional_target": "embed_tokens"}, {"upcast_layernorm": True}, {"pissa_init": True}]
)
def test_in_bf16_the_base_is_narrow_and_the_adapter_is_not_also_when_it_is_loaded_again(
    lora: Settings, tmp_path: Path, changes: dict[str, Any]
) -> None:
    from trainkit.methods.pissa import keep_initial

    model = load(lora(bf16=True, **changes))
    keep_initial(model, tmp_path)
    nudge(model)
    assert {p.dtype for _, p in prepare_trainable(model)} == {torch.float32}
    frozen = {p.dtype for name, p in model.named_parameters() if not p.requires_grad and "norm" not in name}
    assert frozen == {torch.bfloat16}
    norms = {p.dtype for name, p in model.named_parameters() if "norm" in name}
    assert norms == {torch.float32 if "upcast_layernorm" in changes else torch.bfloat16}
    save(model, tmp_path / "saved")
    again = load(lora(bf16=True, **changes), resumed=tmp_path / "saved")
    for (name, one), (_, other) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert one.dtype == other.dtype, name
        assert torch.equal(one, other), name


def test_pure_bf16_keeps_the_adapter_in_bf16_too(lora: Settings) -> None:
    assert {p.dtype for p in load(lora(pure_bf16=True)).parameters()} == {torch.bfloat16}


def test_a_new_adapter_begins_on_top_of_the_old_ones(lora: Settings, tmp_path: Path) -> None:
    first = nudge(load(lora()))
    one = save(first, tmp_path / "one")
    second = nudge(load(lora(adapter_name_or_path=one, create_new_adapter=True, lora_target="q_proj")))
    assert len(trained_names(second)) == 2 * 2
    two, said = save(second, tmp_path / "two"), logits(second)
    assert float((said - logits(first)).abs().max()) > 1e-3
    on_both = load(lora(adapter_name_or_path=f"{one},{two}"))  # the first is merged, the last goes on
    torch.testing.assert_close(logits(on_both), said, rtol=0, atol=1e-5)
    assert trained_names(on_both) == trained_names(second)
    torch.testing.assert_close(
        logits(load(lora(adapter_name_or_path=one, create_new_adapter=True))), logits(first), rtol=0, atol=1e-5
    )


def test_embeddings_trained_beside_the_adapter_go_on_being_the_head(lora: Settings) -> None:
    model = nudge(load(lora(additional_target="embed_tokens")))
    assert torch.equal(model.get_input_embeddings().weight, model.get_output_embeddings().weight)


def test_adapter_folder_is_a_folder_within_each_adapter(lora: Settings, tmp_path: Path) -> None:
    model = nudge(load(lora()))
    save(model, tmp_path / "repo" / "inner")
    keys = lora(adapter_name_or_path=str(tmp_path / "repo"), adapter_folder="inner")
    assert torch.equal(logits(load(keys)), logits(model))
