"""How many parameters a run has and trains, read from the heads of the weights' files: nothing is loaded."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from registry.errors import UsageError
from trainkit.config import MethodConfig, ModelConfig
from trainkit.hub import adapter_paths
from trainkit.layers import chosen_layers, layers_of, trained_names

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


def count_parameters(settings: ModelConfig, method: MethodConfig, *, num_ids: int | None = None) -> Parameters:
    """The parameters of a run; ``num_ids`` is the size of a tokenizer that the vocabulary grows to.

    Raises ``UsageError`` for a file of weights that is none.
    """
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
    grown = grow_shapes(shapes, config.get("vocab_size"), num_ids) if num_ids is not None else ()
    total = sum(map(math.prod, shapes.values()))
    try:
        if method.finetuning_type in ("full", "freeze"):
            return Parameters(total, _whole(shapes, method, config))
        extra = method.additional_target or grown
        added = _added(shapes, settings, replace(method, additional_target=extra), config)
    except UsageError as error:
        return Parameters(total, None, error.what)
    return Parameters(total + added, added)


def _whole(shapes: Mapping[str, Sequence[int]], method: MethodConfig, config: Mapping[str, Any]) -> int:
    """The trained ones of the model's own. Raises ``UsageError`` where the files do not tell."""
    if method.finetuning_type == "full":
        return sum(map(math.prod, shapes.values()))
    named = dict(shapes)
    if config.get("tie_word_embeddings"):  # either of the two names may be asked for
        named["lm_head.weight"] = ()
    chosen = trained_names(named, method, _num_layers(config))
    if "lm_head.weight" in chosen and not named["lm_head.weight"]:
        chosen = [*chosen, *(name for name in shapes if name.endswith("embed_tokens.weight"))]
    return sum(math.prod(shapes[name]) for name in set(chosen) if name in shapes)


def _added(
    shapes: Mapping[str, Sequence[int]], settings: ModelConfig, method: MethodConfig, config: Mapping[str, Any]
) -> int:
    """The adapter's, all of them trained. Raises ``UsageError`` where the files do not tell."""
    adapters = adapter_paths(settings)
    if adapters and not method.create_new_adapter:
        held = weight_shapes(adapters[-1], prefix="adapter_model")
        if not held:
            raise UsageError(f"no weights of the adapter {adapters[-1]} as .safetensors")
        return sum(map(math.prod, held.values()))
    if any(config.get(key) for key in EXPERTS):
        raise UsageError("which layers of a mixture of experts get an adapter is known when it is loaded")
    lora = method.finetuning_type == "lora"
    asked = method.lora_target if lora else method.oft_target
    targets = linear_targets(shapes, asked, config.get("vocab_size"))
    if lora and method.use_llama_pro:
        layers = layers_of(shapes, _num_layers(config))
        within = tuple(f"{layers.path}.{index}." for index in chosen_layers(layers.count, method))
        targets = {name: shape for name, shape in targets.items() if name.startswith(within)}
    if not targets:
        key = "lora_target" if lora else "oft_target"
        raise UsageError(f"{key} {', '.join(asked)} names no linear layer of the files")
    extra = sum(
        math.prod(shape)
        for name, shape in shapes.items()
        if any(_is_named(name.rpartition(".")[0], module) for module in method.additional_target or ())
    )
    size = _lora_size if lora else _oft_size
    return extra + sum(size(shape, method) for shape in targets.values())


def _num_layers(config: Mapping[str, Any]) -> int | None:
    found = (config.get("text_config") or config).get("num_hidden_layers")
    return found if isinstance(found, int) else None


def grow_shapes(shapes: dict[str, list[int]], vocab_size: int | None, num_ids: int) -> tuple[str, ...]:
    """Grow, in place, the rows of embeddings and head to ``num_ids`` ids; returns the last names of their modules."""
    grown = []
    for name, shape in shapes.items():
        module = name.removesuffix(".weight").rpartition(".")[2]
        if module in NO_LINEAR and len(shape) == 2 and shape[0] == vocab_size:
            shapes[name] = [grown_rows(shape[0], num_ids), shape[1]]
            grown.append(module)
    return tuple(grown)


def grown_rows(rows: int, num_ids: int) -> int:
    """Rows of embeddings that have ``rows`` once they hold ``num_ids`` ids: a multiple of 64 where they grow."""
    return rows if num_ids <= rows else -(-num_ids // 64) * 64


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


def _lora_size(shape: Sequence[int], method: MethodConfig) -> int:
    """Of a weight [out, in]: two matrices of the rank, and with DoRA a magnitude for each output."""
    return method.lora_rank * (shape[0] + shape[1]) + (shape[0] if method.use_dora else 0)


def _oft_size(shape: Sequence[int], method: MethodConfig) -> int:
    """Of a weight [out, in]: the upper triangle of each block."""
    number, size = blocks_of(shape[1], method.oft_rank, method.oft_block_size)
    return number * size * (size - 1) // 2


def blocks_of(in_features: int, rank: int, block_size: int) -> tuple[int, int]:
    """(number, size) of the blocks for an input of ``in_features``; where it does not divide by what is asked for,
    by the nearest number that it does divide by, as peft takes it."""
    asked = rank or block_size
    if asked >= in_features:
        nearest = in_features
    else:
        above = next(n for n in range(asked, in_features + 1) if in_features % n == 0)
        below = next(n for n in range(asked, 0, -1) if in_features % n == 0)
        nearest = below if asked - below <= above - asked else above
    return (nearest, in_features // nearest) if rank else (in_features // nearest, nearest)


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
