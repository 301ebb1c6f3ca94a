"""Positions stretched to the cutoff: by how much, into which config, and what is refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from registry.errors import Faults, UsageError
from trainkit.config import load_config
from trainkit.model import load_base
from trainkit.rope import stretch, stretch_factor, stretched_limit

Settings = Callable[..., dict[str, Any]]
KINDS = ("linear", "dynamic", "yarn", "llama3")


@pytest.mark.parametrize(
    ("limit", "cutoff_len", "factor"),
    [(128, 128, None), (128, 64, None), (128, 129, 2.0), (128, 256, 2.0), (128, 257, 3.0), (128, None, 2.0)],
)
def test_the_factor_is_the_cutoff_in_whole_lengths_of_the_model(
    limit: int, cutoff_len: int | None, factor: float | None
) -> None:
    assert stretch_factor(limit, cutoff_len) == factor
    assert stretched_limit(limit, "yarn", cutoff_len) == limit * (factor or 1)
    assert stretched_limit(limit, None, cutoff_len) == limit


@pytest.mark.parametrize("kind", KINDS)
def test_the_loaded_model_has_the_frequencies_of_its_kind(settings: Settings, kind: str) -> None:
    """64 pairs of dimensions turn by θ^(-i/8), i = 0…7 (head of 16); 3 × 128 ≥ 300."""
    config = load_config(settings(rope_scaling=kind, cutoff_len=300))
    model = load_base(config.model, torch.float32, cutoff_len=300)
    rope, limit = model.config.rope_parameters, model.config.max_position_embeddings
    plain = load_base(load_config(settings()).model, torch.float32)
    assert (rope["rope_type"], rope["factor"]) == (kind, 3.0)
    assert rope["rope_theta"] == plain.config.rope_parameters["rope_theta"]
    assert limit == (128 if kind == "dynamic" else 384)
    assert rope.get("original_max_position_embeddings") == (128 if kind in ("yarn", "llama3") else None)
    before, after = plain.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq
    if kind == "linear":
        assert torch.allclose(after, before / 3)
    elif kind == "dynamic":  # as it was up to the model's own length, slower beyond
        assert torch.equal(after, before)
        model(input_ids=torch.zeros(1, 300, dtype=torch.long))
        theta = rope["rope_theta"] * (3 * 300 / 128 - 2) ** (16 / 14)
        wanted = theta ** (-torch.arange(0, 16, 2).float() / 16)
        assert torch.allclose(model.model.rotary_emb.inv_freq, wanted, rtol=1e-4)
    else:  # fast turns stay, slow ones are stretched
        assert torch.allclose(after[0], before[0])
        assert torch.allclose(after[-1], before[-1] / 3)
    assert model(input_ids=torch.zeros(1, 300, dtype=torch.long)).logits.isfinite().all()


def test_a_cutoff_that_fits_changes_nothing_and_says_so(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    config = load_config(settings(rope_scaling="yarn", cutoff_len=128))
    with caplog.at_level(logging.INFO, logger="tunekit"):
        model = load_base(config.model, torch.float32, cutoff_len=128)
    assert model.config.rope_parameters["rope_type"] == "default"
    assert "rope_scaling changes nothing: the model takes 128 tokens" in caplog.text


def test_for_inference_the_positions_are_stretched_twofold_unless_they_are_already(settings: Settings) -> None:
    config = load_config(settings(rope_scaling="linear"))
    hf = load_base(config.model, torch.float32).config
    assert (hf.rope_parameters["factor"], hf.max_position_embeddings) == (2.0, 256)
    stretch(hf, "yarn", None)
    assert (hf.rope_parameters["rope_type"], hf.max_position_embeddings) == ("linear", 256)


def test_positions_that_are_stretched_already_are_not_stretched_again(settings: Settings) -> None:
    hf = load_base(load_config(settings(rope_scaling="linear")).model, torch.float32).config
    with pytest.raises(UsageError, match=r"are stretched already \(linear\), to 256 tokens"):
        stretch(hf, "yarn", 1000)


def test_models_without_rotary_positions_are_refused_by_name() -> None:
    from transformers import Gemma3TextConfig, GPT2Config

    with pytest.raises(UsageError, match="models of type gpt2 have no rotary positions"):
        stretch(GPT2Config(), "linear", 10**6)
    with pytest.raises(UsageError, match="models of type gemma3_text have other positions in each kind of layer"):
        stretch(Gemma3TextConfig(), "linear", 10**6)


def test_a_kind_that_does_not_exist_is_a_fault(settings: Settings) -> None:
    with pytest.raises(Faults, match=r'"yarm" is not one of linear, dynamic, yarn, llama3\. Did you mean "yarn"'):
        load_config(settings(rope_scaling="yarm"))


def test_a_stretched_run_is_saved_stretched_goes_on_and_plan_knows_the_limit(
    config_file: Callable[..., Path], trainkit: Callable[..., Any], stop_after_five: Callable[..., None], tmp_path: Path
) -> None:
    path = config_file(rope_scaling="yarn", cutoff_len=200, save_strategy="steps", save_steps=4, max_steps=6)
    plan = json.loads(trainkit("plan", path, "--json").out)
    assert plan["model"]["limit"] == 256
    assert not any("cutoff_len" in told for told in plan["warnings"])
    stop_after_five(path)
    ran = trainkit("run", path)
    assert ran.code == 0, ran.err
    saved = json.loads((tmp_path / "out" / "config.json").read_text("utf-8"))
    assert saved["max_position_embeddings"] == 256
    assert saved["rope_parameters"]["factor"] == 2.0
