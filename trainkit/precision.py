"""In which floating-point type the weights of a run are kept: what is trained in fp32, what is frozen as it was loaded."""

from __future__ import annotations

import re

import torch
from torch import nn

NORM = re.compile(r"norm|(^|[._])ln(_|\d|\.|$)")  # names of normalising layers, in lower case


def base_dtype(finetuning_type: str, *, bf16: bool, pure_bf16: bool) -> torch.dtype:
    """The type that a base is loaded in. Weights that will be trained come in fp32 with what their file has, so that a
    resumed run finds them as they were."""
    if pure_bf16 or (bf16 and finetuning_type in ("lora", "oft")):
        return torch.bfloat16
    return torch.float32


def set_precision(model: nn.Module, *, bf16: bool, pure_bf16: bool, upcast_layernorm: bool) -> None:
    """Trained weights in fp32 (updates smaller than bfloat16's steps would be lost otherwise), or with ``pure_bf16`` in
    bfloat16; frozen ones in bfloat16 where ``bf16`` computes in it, but norms with ``upcast_layernorm`` in fp32.
    Quantised weights are left alone."""
    for name, parameter in model.named_parameters():
        if not parameter.is_floating_point() or hasattr(parameter, "quant_state"):
            continue
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16 if pure_bf16 else torch.float32)
        elif upcast_layernorm and parameter.ndim == 1 and NORM.search(name.lower()):
            parameter.data = parameter.data.float()
        elif (bf16 or pure_bf16) and parameter.dtype == torch.float32:
            parameter.data = parameter.data.to(torch.bfloat16)
