"""Quantised bases: quantised while they are loaded, or saved so; which are trained beside, and what each needs."""

from __future__ import annotations

import importlib.util
import json
import logging
from typing import Any

import torch
from torch import nn

from registry.errors import UsageError
from trainkit.config import ModelConfig
from trainkit.hub import model_folder

log = logging.getLogger("tunekit")

# What transformers needs to load a model that is saved in a method: module → name for pip.
NEEDED = {
    "bitsandbytes": {"bitsandbytes": "bitsandbytes"},
    "gptq": {"optimum": "optimum", "gptqmodel": "gptqmodel"},
    "awq": {"gptqmodel": "gptqmodel"},
    "aqlm": {"aqlm": '"aqlm[gpu,cpu]"'},
    "quanto": {"optimum": "optimum-quanto"},
    "eetq": {"kernels": "kernels"},
    "hqq": {"hqq": "hqq"},
    "compressed-tensors": {"compressed_tensors": "compressed-tensors"},
    "auto-round": {"auto_round": "auto-round"},
    "torchao": {"torchao": "torchao"},
}
WIDENED = ("fp8", "mxfp4")  # turned back into ordinary weights while they are loaded, as LLaMA-Factory 0.9.5 does


def saved_in(settings: ModelConfig) -> str | None:
    """The method that a model's weights are saved in by its config.json; None for ordinary weights."""
    try:
        config = json.loads((model_folder(settings) / "config.json").read_text(encoding="utf-8"))
        return _method_of(config.get("quantization_config"))
    except (OSError, ValueError, AttributeError):
        return None  # loading says what is wrong with the file


def _method_of(described: Any) -> str | None:
    if not isinstance(described, dict):
        return None
    if "quant_method" not in described and (described.get("load_in_4bit") or described.get("load_in_8bit")):
        return "bitsandbytes"
    return str(described.get("quant_method") or "an unnamed method").lower()


def loading_options(settings: ModelConfig, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """What ``from_pretrained`` is told of quantisation; nothing for ordinary weights that stay so.

    Raises ``UsageError`` naming the package that is missing.
    """
    held = saved_in(settings)
    if held in WIDENED:
        if settings.quantization_bit:
            _not_twice(settings, held)
        log.info("the weights are saved in %s, and widened to %s", held, str(dtype).removeprefix("torch."))
        return {"quantization_config": _widening(held)}
    if held:
        if settings.quantization_bit:
            _not_twice(settings, held)
        _need(NEEDED.get(held, {}), f"the weights are saved in {held}", settings.model_name_or_path)
        return {"device_map": {"": device}}
    if settings.quantization_bit is None:
        return {}
    _need(NEEDED["bitsandbytes"], f'"quantization_bit: {settings.quantization_bit}"', None)
    return {"device_map": {"": device}, "quantization_config": _bitsandbytes(settings, dtype)}


def _bitsandbytes(settings: ModelConfig, dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    if settings.quantization_bit == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=settings.quantization_type,
        bnb_4bit_use_double_quant=settings.double_quantization,
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_quant_storage=dtype,  # of the other weights' type: sharding backends flatten them together
    )


def _widening(held: str) -> Any:
    from transformers.utils.quantization_config import FineGrainedFP8Config, Mxfp4Config

    return FineGrainedFP8Config(dequantize=True) if held == "fp8" else Mxfp4Config(dequantize=True)


def _not_twice(settings: ModelConfig, held: str) -> None:
    log.warning(
        "quantization_bit: %s changes nothing, the weights are saved in %s already", settings.quantization_bit, held
    )


def _need(packages: dict[str, str], what: str, where: str | None) -> None:
    missing = [pip for module, pip in packages.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise UsageError(
            f"{what} needs packages that are not installed: {', '.join(missing)}",
            where=where,
            mend=f"Install them:  pip install {' '.join(missing)}",
        )


def is_quantised(model: nn.Module) -> bool:
    """Whether a loaded model's weights are quantised."""
    return bool(getattr(model, "is_quantized", False)) and getattr(model, "hf_quantizer", None) is not None


def check_trainable(model: nn.Module, settings: ModelConfig, finetuning_type: str) -> None:
    """Raise ``UsageError`` where a quantised model cannot be trained (beside) as asked for."""
    if not is_quantised(model):
        return
    name, method = settings.model_name_or_path, getattr(model, "quantization_method", None)
    method = str(getattr(method, "value", method))
    if finetuning_type not in ("lora", "oft"):
        raise UsageError(
            f"the weights are quantised ({method}), and finetuning_type {finetuning_type} would train them",
            where=name,
            mend="Write finetuning_type: lora (or oft), or name the unquantised model.",
        )
    if not model.hf_quantizer.is_trainable:  # type: ignore[union-attr]
        raise UsageError(
            f"the weights are quantised in a way that lets no gradient through ({method})",
            where=name,
            mend="Name the unquantised model with quantization_bit: 4.",
        )


def num_weights(parameter: nn.Parameter) -> int:
    """How many weights a parameter stands for; 4-bit ones are packed several to a number."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else int(torch.Size(state.shape).numel())
