"""OFT: blocks of rotations that begin as nothing, and are merged, saved and loaded as they were trained."""

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
from trainkit.model import load_base

Settings = Callable[..., dict[str, Any]]
VARIANTS: list[dict[str, Any]] = [
    {},
    {"oft_rank": 4, "oft_block_size": 0},
    {"additional_target": "embed_tokens,lm_head"},
]


@pytest.fixture
def oft(settings: Settings) -> Settings:
    return lambda **changes: settings(finetuning_type="oft", **{"oft_block_size": 8, **changes})


@pytest.fixture
def base(settings: Settings) -> nn.Module:
    return load_base(load_config(settings()).model, torch.float32).eval()


def test_rank_and_block_size_follow_from_each_other(oft: Settings) -> None:
    for keys in (oft(), oft(oft_rank=4, oft_block_size=0)):
        weights = [
            p for n, p in load(keys).named_parameters() if n.endswith("layers.0.self_attn.q_proj.oft_R.default.weight")
        ]
        assert [tuple(p.shape) for p in weights] == [(4, 28)]  # 32 inputs: four blocks of 8, each of 8 · 7 / 2 numbers


def test_targets_can_be_named(oft: Settings) -> None:
    names = trained_names(load(oft(oft_target="q_proj")))
    assert [name.split("layers.")[1] for name in names] == [
        f"{n}.self_attn.q_proj.oft_R.default.weight" for n in (0, 1)
    ]
    with pytest.raises(UsageError, match="oft_target names no module of this model: query"):
        load(oft(oft_target="query"))


def test_a_block_size_that_does_not_divide_a_layer_is_told(oft: Settings, caplog: pytest.LogCaptureFixture) -> None:
    load(oft(oft_block_size=24))
    assert "oft_block_size 24 does not divide layers with 32 inputs: 16 is taken there" in caplog.text


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_a_fresh_adapter_says_what_the_base_says(oft: Settings, base: nn.Module, changes: dict[str, Any]) -> None:
    torch.testing.assert_close(logits(load(oft(**changes))), logits(base), rtol=0, atol=1e-5)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_a_trained_adapter_is_loaded_resumed_and_merged_as_it_was(
    oft: Settings, base: nn.Module, tmp_path: Path, changes: dict[str, Any]
) -> None:
    model = nudge(load(oft(**changes)))
    folder, said = save(model, tmp_path / "checkpoint-1"), logits(model)
    assert float((said - logits(base)).abs().max()) > 1e-3
    assert torch.equal(logits(load(oft(**changes), resumed=Path(folder))), said)
    continued = load(oft(adapter_name_or_path=folder))
    assert torch.equal(logits(continued), said)
    assert trained_names(continued) == trained_names(model)
    merged = merge_adapters(base, [folder]).eval()
    torch.testing.assert_close(logits(merged), said, rtol=0, atol=1e-5)


def test_a_tied_head_and_embeddings_trained_whole_stay_one_tensor(oft: Settings, tmp_path: Path) -> None:
    model = nudge(load(oft(additional_target="embed_tokens,lm_head")))
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    again = load(oft(), resumed=Path(save(model, tmp_path / "saved")))
    assert again.get_input_embeddings().weight is again.get_output_embeddings().weight


def test_dropout_switches_blocks_off_in_training_alone(oft: Settings) -> None:
    model = nudge(load(oft(module_dropout=0.5)))
    said = logits(model)
    assert torch.equal(logits(model), said)
    assert not torch.allclose(logits(model.train()), said)
