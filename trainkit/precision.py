"""In which floating-point type the weights of a run are kept: what is trained in fp32, what is frozen as it was loaded."""

from __future__ import annotations

import logging
import platform
import re

import torch
from torch import nn

from registry.errors import UsageError

log = logging.getLogger("tunekit")

BF16_SINCE = (8, 0)  # NVIDIA's compute capability from which on GPUs have instructions for bfloat16 (Ampere)
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


def check_bf16(device: torch.device) -> None:
    """Whether bfloat16 is what ``device`` computes in. Raises ``UsageError`` for a GPU without instructions for it; a CPU
    without them is warned of, as it gives the same numbers, slowly."""
    if device.type == "cuda" and torch.version.hip is None:  # AMD's capabilities are numbers of another kind
        check_capability(torch.cuda.get_device_capability(device), torch.cuda.get_device_name(device))
    elif device.type == "cpu" and not cpu_has_bf16():
        log.warning("bf16 on a CPU without instructions for it (AMX, AVX512-BF16): it is slower than fp32 here")


def check_capability(capability: tuple[int, int], name: str) -> None:
    """Raise ``UsageError`` where a GPU of this compute capability has no bfloat16 (torch would imitate it, slowly)."""
    if capability < BF16_SINCE:
        had, least = (".".join(map(str, c)) for c in (capability, BF16_SINCE))
        raise UsageError(
            f"bf16 needs a GPU of compute capability {least} or above, and {name} has {had}",
            where="bf16",
            mend="Remove bf16 and pure_bf16 to compute in fp32, or set use_cpu: true.",
        )


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices itself; only of x86 it is known."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return True
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # not of every version of torch
    return any(getattr(torch.cpu, name, lambda: False)() for name in asked)
