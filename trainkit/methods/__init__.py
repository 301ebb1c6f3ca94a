"""Which weights are trained: each method takes a loaded base and gives back the model with those weights marked."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from trainkit.config import MethodConfig
from trainkit.methods import freeze, full, lora, oft

METHODS: dict[str, Callable[[nn.Module, MethodConfig], nn.Module]] = {
    "full": full.attach,  # every weight
    "freeze": freeze.attach,  # some layers of the base itself; use_llama_pro: evenly spread ones
    "lora": lora.attach,  # low-rank adapters; rslora, dora, pissa
    "oft": oft.attach,  # orthogonal adapters
}
ADAPTED = ("lora", "oft")  # methods that leave the base as it is and save an adapter alone
