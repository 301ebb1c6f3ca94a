"""How many parameters a run has and trains, read from the heads of the weights' files: nothing is loaded."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.errors import UsageError
from trainkit.config import MethodConfig, ModelConfig

# Modules that no adapter goes to though their weights have two dimensions: embeddings and heads, by their usual names.
NO_LINEAR = ("embed_tokens", "wte", "wpe", "word_embeddings", "tok_embeddings", "lm_head", "embed_out", "output_layer")
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
LONGEST_HEAD = 1 << 28  # bytes; a longer one is a damaged file


@dataclass(frozen=True, slots=True)
class Parameters:
    """``total`` of the model with its adapter, ``trainable`` of them; None where that cannot be told, and then ``why``."""

    total: int | None
    trainable: int | None
    why: str = ""


def count_parameters(settings: ModelConfig, method: MethodConfig) -> Parameters:
    """The parameters of a run. Raises ``UsageError`` for a file of weights that is none."""
    folder = Path(settings.model_name_or_path)
    shapes = weight_shapes(folder)
    if not shapes:
        where = "are not on this machine" if not folder.is_dir() else "are not there as .safetensors"
        return Parameters(None, None, f"the weights {where}")
    config = _config_of(folder)
    if config.get("quantization_config"):
        return Parameters(None, None, "the weights are quantised, and their files do not tell how many there are")
    if config.get("tie_word_embeddings") and "lm_head.weight" in shapes:  # saved twice, one tensor in the model
        shapes.pop("lm_head.weight")
    total = sum(map(math.prod, shapes.values()))
    if method.finetuning_type == "full":
        return Parameters(total, total)
    if method.finetuning_type != "lora":
        return Parameters(total, None, f"{method.finetuning_type} is not counted")
    adapters = settings.adapter_name_or_path
    if adapters and not method.create_new_adapter:
        held = weight_shapes(Path(adapters[-1]), prefix="adapter_model")
        if not held:
            return Parameters(total, None, f"no weights of the adapter {adapters[-1]} as .safetensors")
        added = sum(map(math.prod, held.values()))
        return Parameters(total + added, added)
    if any(config.get(key) for key in EXPERTS):
        return Parameters(total, None, "which layers of a mixture of experts get an adapter is known when it is loaded")
    targets = linear_targets(shapes, method.lora_target, config.get("vocab_size"))
    if not targets:
        return Parameters(
            total, None, f"lora_target {', '.join(method.lora_target)} names no linear layer of the files"
        )
    added = sum(_adapter_size(shape, method) for shape in targets.values())
    extra = sum(
        math.prod(shape)
        for name, shape in shapes.items()
        for module in (method.additional_target or ())
        if _is_named(name.rpartition(".")[0], module)
    )
    return Parameters(total + added + extra, added + extra)


def linear_targets(
    shapes: Mapping[str, Sequence[int]], asked: Sequence[str], vocab_size: int | None
) -> dict[str, Sequence[int]]:
    """The linear layers that get an adapter, by the names of their modules; ``all`` leaves out embeddings and head."""
    linear = {
        name.removesuffix(".weight"): shape
        for name, shape in shapes.items()
        if name.endswith(".weight") and len(shape) == 2
    }
    inner = {
        name: shape
        for name, shape in linear.items()
        if name.rpartition(".")[2] not in NO_LINEAR and shape[0] != vocab_size
    }
    if "all" in asked:
        return inner
    return {name: shape for name, shape in linear.items() if any(_is_named(name, one) for one in asked)}


def _is_named(module: str, name: str) -> bool:
    return module == name or module.endswith(f".{name}")


def _adapter_size(shape: Sequence[int], method: MethodConfig) -> int:
    """Two matrices of the rank, and with DoRA a magnitude for each output."""
    return method.lora_rank * (shape[0] + shape[1]) + (shape[0] if method.use_dora else 0)


def weight_shapes(folder: Path, *, prefix: str = "") -> dict[str, list[int]]:
    """The shape of every tensor in a folder's .safetensors files whose names begin with ``prefix``; none where there
    are no such files. Raises ``UsageError`` for a file that is damaged."""
    found: dict[str, list[int]] = {}
    files = sorted(folder.glob(f"{prefix}*.safetensors")) if folder.is_dir() else []
    for path in files:
        if not prefix and path.name.startswith(("adapter_model", "reference")):
            continue
        for name, tensor in _head_of(path).items():
            if name != "__metadata__":
                found[name] = tensor["shape"]
    return found


def _head_of(path: Path) -> dict[str, Any]:
    """The head of a .safetensors file: eight bytes of its length (little endian), then JSON."""
    try:
        with path.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if length > LONGEST_HEAD:
                raise ValueError("its head is too long")
            return dict(json.loads(handle.read(length)))
    except (OSError, ValueError) as error:
        raise UsageError(f"the weights cannot be read: {error}", where=str(path)) from None


def _config_of(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
