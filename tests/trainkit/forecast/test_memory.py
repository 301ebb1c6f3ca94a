"""The memory of a run, told from its config: against the model that is really built, and against what must be smaller."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit.config import RunConfig, load_config
from trainkit.data.collate import Batch, collate_sequences
from trainkit.forecast.activations import Model, changed
from trainkit.forecast.advice import needs_recompute, ways_out
from trainkit.forecast.build import CannotFollow
from trainkit.forecast.memory import Memory, forecast_memory

Settings = Callable[..., dict[str, Any]]


def batch(size: int = 2, length: int = 64) -> Batch:
    from array import array

    from registry.encode import Example

    one = Example(array("i", [5] * length), array("i", [-100] * 8 + [5] * (length - 8)))
    return collate_sequences([one] * size, range(size), 0, strict=True)


@pytest.fixture
def config(settings: Settings) -> RunConfig:
    return load_config(settings(template="chatml"))


def told(config: RunConfig, used: Batch, **options: Any) -> Memory:
    folder = config.model.model_name_or_path
    return forecast_memory(config, Model(config, folder), used, device="cpu", **options)


def test_weights_and_optimizer_are_those_of_the_loaded_model(config: RunConfig) -> None:
    from transformers import AutoModelForCausalLM

    real = AutoModelForCausalLM.from_pretrained(config.model.model_name_or_path, dtype=torch.float32)
    size = sum(p.numel() * 4 for p in real.parameters())
    found = told(config, batch())
    assert (found.weights, found.optimizer) == (size, 2 * size)


def test_what_autograd_keeps_is_what_it_keeps_of_the_real_model(config: RunConfig) -> None:
    """Storages that the real model's forward pass saves, its weights left out, counted by torch's own hooks."""
    from transformers import AutoModelForCausalLM

    used = batch()
    real = AutoModelForCausalLM.from_pretrained(config.model.model_name_or_path, dtype=torch.float32).train()
    own = {p.untyped_storage().data_ptr() for p in real.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        states = real.base_model(input_ids=used.input_ids, use_cache=False).last_hidden_state
    expected = sum(t.untyped_storage().nbytes() for place, t in kept.items() if place not in own)
    traced = Model(config, config.model.model_name_or_path).follow(config, used, "cpu", "none")
    assert states.requires_grad
    (vocab, width), labelled = real.get_input_embeddings().weight.shape, 2 * (64 - 8)
    # of the head: the weight's gradient, a chunk's logits, the labelled hidden states and their gradient
    head = 4 * (vocab * width + labelled * vocab + 2 * labelled * width)
    assert traced.every.kept == pytest.approx(expected + head, rel=0.1)


def test_a_deep_model_is_told_from_two_short_ones(config: RunConfig, tmp_path: Path) -> None:
    from transformers import AutoConfig

    hf = AutoConfig.from_pretrained(config.model.model_name_or_path)
    hf.num_hidden_layers, hf.layer_types = 7, ["full_attention"] * 7
    hf.save_pretrained(tmp_path)
    model = Model(config, str(tmp_path))
    whole = model._follow(config, model._hf, batch(), "cpu", "none")
    assert model.follow(config, batch(), "cpu", "none").every.peak == pytest.approx(whole.every.peak, rel=0.01)


def test_recomputing_saves_and_half_of_it_saves_half(config: RunConfig) -> None:
    model = Model(config, config.model.model_name_or_path)
    none, some, full = (model.follow(config, batch(8), "cpu", how).every.kept for how in ("none", "selective", "full"))
    assert full < some < none
    assert some - full == pytest.approx((none - full) / 2, rel=0.1)


def test_what_trains_less_keeps_less(config: RunConfig) -> None:
    full = told(config, batch())
    for keys in ({"finetuning_type": "lora"}, {"finetuning_type": "freeze", "freeze_trainable_layers": 1}):
        assert told(changed(config, **keys), batch()).optimizer < full.optimizer
    assert told(changed(config, pure_bf16=True, bf16=True), batch()).weights == full.weights // 2


def test_recomputing_begins_only_where_memory_asks_for_it(config: RunConfig) -> None:
    model = Model(config, config.model.model_name_or_path)
    needed = told(config, batch(4)).total
    how = [needs_recompute(config, model, batch(4), device="cpu", limit=limit) for limit in (2 * needed, None, 1)]
    assert how == ["none", "none", "full"]


def test_the_ways_out_are_the_three_that_save_most(config: RunConfig) -> None:
    model = Model(config, config.model.model_name_or_path)
    now = told(config, batch(8), limit=1)
    ways = ways_out(
        changed(config, per_device_train_batch_size=8), model, lambda size, most: batch(size, min(most, 64)), now
    )
    assert len(ways) == 3
    assert [way.saves for way in ways] == sorted((way.saves for way in ways), reverse=True)
    assert all(way.saves > 0 and not way.fits for way in ways)


def test_a_model_that_transformers_does_not_know_says_so(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "of_its_own"}')
    with pytest.raises(CannotFollow, match=r"config\.json"):
        Model(config, str(tmp_path))


def test_nothing_of_a_forecast_stays_in_the_heads_room(config: RunConfig) -> None:
    from torch._subclasses import FakeTensor

    from trainkit.head_chunks import _Room

    told(config, batch())
    assert not any(isinstance(kept, FakeTensor) for kept in _Room._kept.values())
