"""How many floating-point operations a step takes, and how many a second a device is said to do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

# Name in the device's own name -> dense TFLOP/s in bfloat16 (float16 where a device has no bfloat16), without sparsity,
# from the makers' data sheets. The first that fits counts, so the longer names stand before the shorter ones.
PEAKS = {
    "B200": 2250.0,
    "H100 PCIE": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "H200": 989.0,
    "H800": 989.0,
    "H20": 148.0,
    "A100": 312.0,
    "A800": 312.0,
    "A6000": 155.0,
    "A40": 150.0,
    "A10G": 70.0,
    "A10": 125.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "V100": 125.0,
    "T4": 65.0,
    "RTX 5090": 209.0,
    "RTX 4090": 165.0,
    "RTX 3090": 71.0,
    "MI300X": 1307.0,
    "MI250": 362.0,
}


@dataclass(frozen=True, slots=True)
class Work:
    """What one token costs: numbers of weights that it is multiplied by, and the width of its attention.

    ``body`` weights in the layers (of experts only those that a token goes to), ``body_trained`` of them with a gradient
    of their own; ``head`` weights between the last hidden state and the logits, ``head_trained`` of them with one;
    ``attention`` is layers × heads × head size.
    """

    body: int
    body_trained: int
    head: int
    head_trained: int
    attention: int


def flops_per_step(
    work: Work,
    *,
    num_tokens: float,
    num_labelled: float,
    context: float,
    num_forward: float = 0.0,
    recomputed: float = 0.0,
) -> float:
    """The floating-point operations of one optimizer step, all its micro-batches together.

    A multiplication and an addition are two. ``num_tokens`` go forward and backward, ``num_labelled`` of them through
    the head, ``num_forward`` others forward only (KL rows). ``context`` is how many tokens the document of a token has, on
    average over tokens: sum(length²) / sum(length). Attention is counted causal, half of the square.
    ``recomputed`` is the share of the layers whose forward pass is done twice: 0 for model FLOPs, as in MFU.

    Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1: 2N forward, 4N backward; a frozen weight
    has no gradient of its own, so 2N backward.
    """
    forward = 2 * work.body + 2 * work.attention * context
    backward = 2 * work.body + 2 * work.body_trained + 4 * work.attention * context
    head = 4 * work.head + 2 * work.head_trained
    return num_tokens * (forward * (1 + recomputed) + backward) + num_labelled * head + num_forward * forward


def context_of(lengths: Sequence[int]) -> float:
    """The length of the document that a token is in, on average over the tokens of documents of these ``lengths``."""
    return sum(n * n for n in lengths) / max(sum(lengths), 1)


def device_peak(name: str) -> float | None:
    """Dense bfloat16 FLOP/s of a device by the name it gives (``torch.cuda.get_device_name()``); None where unknown."""
    upper = name.upper()
    return next((tera * 1e12 for part, tera in PEAKS.items() if part in upper), None)


def work_of(model: nn.Module) -> Work:
    """What a token costs in a causal model of transformers, adapters included; quantised weights count as whole ones."""
    config: Any = model.config
    base = model.get_base_model() if hasattr(model, "peft_config") else model  # type: ignore[operator]
    outputs, inputs = base.get_output_embeddings(), base.get_input_embeddings()  # type: ignore[operator]
    embeddings = {id(m) for m in base.modules() if type(m).__name__.endswith("Embedding")} - {id(outputs)}
    body = body_trained = head = head_trained = 0
    chosen = _share_of_experts(config)
    for path, module in base.named_modules():
        for name, weight in module.named_parameters(recurse=False):
            if weight.ndim < 2 or id(module) in embeddings or module is inputs:
                continue
            count = _whole_size(module, name, weight)
            if module is outputs:
                head, head_trained = head + count, head_trained + count * weight.requires_grad
            else:
                share = chosen if ".experts" in path else 1.0
                body += round(count * share)
                body_trained += round(count * share) * weight.requires_grad
    return Work(body, body_trained, head, head_trained, attention_width(config.to_dict()))


def _whole_size(module: nn.Module, name: str, weight: Any) -> int:
    features = getattr(module, "in_features", 0) * getattr(module, "out_features", 0)
    packed = not weight.is_floating_point() and name == "weight"  # of a quantised layer, whose bytes hold several
    return int(features) if packed and features else math.prod(weight.shape)


def _share_of_experts(config: Any) -> float:
    """Of all experts, how many a token goes to; 1 where the model has none."""
    names = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    total = next((n for name in names if (n := getattr(config, name, None))), 0)
    chosen = getattr(config, "num_experts_per_tok", None) or getattr(config, "moe_topk", None)
    return chosen / total if total and chosen else 1.0


def attention_width(config: Mapping[str, Any]) -> int:
    """Layers × heads × head size of a ``config.json``; 0 where it tells none of them."""
    text = config.get("text_config") or config
    layers = text.get("num_hidden_layers") or text.get("n_layer") or 0
    heads = text.get("num_attention_heads") or text.get("n_head") or 0
    hidden = text.get("hidden_size") or text.get("n_embd") or 0
    size = text.get("head_dim") or (hidden // heads if heads else 0)
    return int(layers * heads * size)
