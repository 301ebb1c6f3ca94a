"""Quantised bases: adapters trained beside them on a CPU, and what is missing or impossible told by name."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from registry.errors import UsageError
from tests.trainkit.methods.models import CPU, IDS, load, logits, nudge, save, trained_names
from trainkit.config import load_config
from trainkit.methods.adapters import merge_adapters
from trainkit.model import load_base, load_for_inference, load_frozen
from trainkit.quantize import is_quantised, loading_options, saved_in

Settings = Callable[..., dict[str, Any]]
KINDS: dict[str, dict[str, Any]] = {
    "nf4": {"quantization_bit": 4},
    "nf4 without double": {"quantization_bit": 4, "double_quantization": False},
    "fp4 in bf16": {"quantization_bit": 4, "quantization_type": "fp4", "bf16": True},
    "8 bits": {"quantization_bit": 8},
}

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes (pip install bitsandbytes)"
)


def autocast(kind: str) -> torch.autocast:
    """What a run computes in; a new one for each pass, as it keeps its narrow copies of the weights."""
    return torch.autocast("cpu", torch.bfloat16, enabled="bf16" in KINDS[kind])


def said_by(model: nn.Module, kind: str) -> torch.Tensor:
    with autocast(kind):
        return logits(model)


def linear_types(model: nn.Module) -> set[str]:
    return {
        type(m).__name__
        for name, m in model.named_modules()
        if name.endswith(("q_proj", "base_layer")) and not hasattr(m, "base_layer")
    }


@needs_bitsandbytes
@pytest.mark.parametrize("method", ["lora", "oft"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_base_is_quantised_and_the_adapter_beside_it_trained_saved_and_resumed(
    settings: Settings, tmp_path: Path, kind: str, method: str
) -> None:
    keys = settings(finetuning_type=method, oft_block_size=8, **KINDS[kind])
    model = load(keys)
    assert linear_types(model) == {"Linear8bitLt" if kind == "8 bits" else "Linear4bit"}
    plain = logits(load_base(load_config(settings()).model, torch.float32).eval())
    difference = float((said_by(model, kind) - plain).abs().max())
    assert 0 < difference < 0.5 * float(plain.abs().max())  # rounded, and still the same model
    with autocast(kind):
        model(input_ids=IDS).logits.float().square().sum().backward()
    grads = {n: float(p.grad.norm()) for n, p in model.named_parameters() if p.grad is not None}
    assert list(grads) == trained_names(model)
    assert any(norm > 0 for norm in grads.values())
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    folder, said = save(nudge(model), tmp_path / "saved"), said_by(model, kind)
    assert torch.equal(said_by(load(keys, resumed=Path(folder)), kind), said)
    assert torch.equal(said_by(load({**keys, "adapter_name_or_path": folder}), kind), said)


@needs_bitsandbytes
def test_four_bits_differ_by_their_format(settings: Settings) -> None:
    said = [
        logits(load(settings(finetuning_type="lora", quantization_bit=4, quantization_type=kind)))
        for kind in ("nf4", "fp4")
    ]
    assert not torch.allclose(said[0], said[1])


@needs_bitsandbytes
def test_what_was_trained_on_a_quantised_base_is_merged_into_the_plain_one_and_asked_beside_either(
    settings: Settings, tmp_path: Path
) -> None:
    folder = save(nudge(load(settings(finetuning_type="lora", quantization_bit=4))), tmp_path / "saved")
    merged = merge_adapters(load_base(load_config(settings()).model, torch.float32), [folder])
    assert linear_types(merged) == {"Linear"}
    config = load_config(settings(finetuning_type="lora", quantization_bit=4, adapter_name_or_path=folder))
    asked = load_for_inference(config.model, torch.float32, device=CPU)
    assert hasattr(asked, "peft_config")
    assert not asked.training
    assert not [p for p in asked.parameters() if p.requires_grad]
    with pytest.raises(UsageError, match=f"adapters cannot be merged into a quantised base: {folder}"):
        merge_adapters(load_base(config.model, torch.float32), [folder])


@needs_bitsandbytes
def test_a_base_that_is_saved_quantised_needs_no_key_and_is_trained_beside_alone(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = load_base(load_config(settings(finetuning_type="lora", quantization_bit=4)).model, torch.float32)
    base.save_pretrained(tmp_path / "packed")  # type: ignore[operator]
    keys = {**settings(finetuning_type="lora"), "model_name_or_path": str(tmp_path / "packed")}
    assert saved_in(load_config(keys).model) == "bitsandbytes"
    model = load(keys)
    assert linear_types(model) == {"Linear4bit"}
    assert torch.equal(logits(model), logits(load({**keys, "quantization_bit": 8})))
    assert "quantization_bit: 8 changes nothing, the weights are saved in bitsandbytes already" in caplog.text
    for method in ("full", "freeze"):
        with pytest.raises(
            UsageError, match=rf"are quantised \(bitsandbytes\), and finetuning_type {method} would train them"
        ):
            load({**keys, "finetuning_type": method})


def test_a_second_model_is_only_asked(settings: Settings, model_folder: Path, tmp_path: Path) -> None:
    trained = nudge(load(settings(finetuning_type="lora")))
    folder, said = save(trained, tmp_path / "adapter"), logits(trained)
    model = load_frozen(load_config(settings()).model, str(model_folder), (folder,), None, bf16=False, device=CPU)
    torch.testing.assert_close(logits(model), said, rtol=0, atol=1e-5)
    assert not model.training
    assert not [p for p in model.parameters() if p.requires_grad]


@needs_bitsandbytes
def test_a_second_model_can_be_quantised_though_the_first_is_not(settings: Settings, model_folder: Path) -> None:
    config = load_config(settings())
    model = load_frozen(config.model, str(model_folder), None, 4, bf16=False, device=CPU)
    assert is_quantised(model)
    quantised = load_config(settings(finetuning_type="lora", quantization_bit=4)).model
    plain = load_frozen(quantised, str(model_folder), None, None, bf16=False, device=CPU)
    assert not is_quantised(plain)


@pytest.mark.parametrize(
    ("described", "missing", "install"),
    [
        ({"quant_method": "gptq", "bits": 4}, "optimum, gptqmodel", "optimum gptqmodel"),
        ({"quant_method": "awq", "bits": 4}, "gptqmodel", "gptqmodel"),
        ({"load_in_4bit": True}, "bitsandbytes", "bitsandbytes"),
    ],
)
def test_the_package_that_a_quantised_model_needs_is_named(
    settings: Settings, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    described: dict[str, Any], missing: str, install: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("trainkit.quantize.importlib.util.find_spec", lambda name: None)
    folder = tmp_path / "packed"
    shutil.copytree(model_folder, folder)
    held = json.loads((folder / "config.json").read_text()) | {"quantization_config": described}
    (folder / "config.json").write_text(json.dumps(held))
    with pytest.raises(UsageError) as caught:
        load_base(load_config(settings(model_name_or_path=str(folder))).model, torch.float32)
    assert f"needs packages that are not installed: {missing}\n  Install them:  pip install {install}" in str(
        caught.value
    )


def test_without_the_library_a_base_is_not_quantised(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainkit.quantize.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match='"quantization_bit: 4" needs packages that are not installed: bitsandbytes'):
        load_base(load_config(settings(finetuning_type="lora", quantization_bit=4)).model, torch.float32)


@pytest.mark.parametrize("method", ["fp8", "mxfp4"])
def test_weights_in_fp8_and_mxfp4_are_widened(
    settings: Settings, model_folder: Path, tmp_path: Path, method: str
) -> None:
    held = json.loads((model_folder / "config.json").read_text()) | {"quantization_config": {"quant_method": method}}
    (tmp_path / "config.json").write_text(json.dumps(held))
    options = loading_options(load_config(settings(model_name_or_path=str(tmp_path))).model, torch.bfloat16, CPU)
    assert options["quantization_config"].dequantize is True
    assert options["quantization_config"].quant_method == method
