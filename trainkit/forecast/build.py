"""The model of a run on tensors without values: as its config says, with what is trained marked so."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from trainkit.config import MethodConfig, ModelConfig

LAYER_COUNTS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
# Keys of a config that tell of each layer what it is, and are as long as the model is deep.
LAYER_LISTS = ("layer_types", "mlp_layer_types", "no_rope_layers", "layers_block_type", "sliding_window_pattern")


class CannotFollow(Exception):
    """Why a model's memory cannot be told from its config."""


def read_model(folder: str) -> tuple[Any, Any]:
    """transformers' config of a model's folder and the class of its causal model. Within fake tensors no module can be
    imported, so this comes first. Raises ``CannotFollow`` for one that only code of its own could read."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from trainkit.loading import quiet_libraries

    quiet_libraries()
    try:
        config = AutoConfig.from_pretrained(folder)
    except Exception as error:  # noqa: BLE001  # a file that is none, a key it cannot take, code that is not allowed
        raise CannotFollow(f"its config.json is none that transformers reads ({_line(error)})") from None
    try:
        return config, AutoModelForCausalLM._model_mapping[type(config)]
    except KeyError:
        raise CannotFollow(f"transformers has no causal model for {type(config).__name__}") from None


def depth_of(config: Any) -> int:
    """How many layers a config has; 0 where it does not say."""
    text = config.get_text_config()
    return next((n for name in LAYER_COUNTS if isinstance(n := getattr(text, name, None), int)), 0)


def period_of(config: Any) -> int:
    """After how many layers the kinds of layers repeat; 0 where they do not."""
    text, depth = config.get_text_config(), depth_of(config)
    if getattr(text, "first_k_dense_replace", 0):
        return 0
    lists = [getattr(text, name, None) for name in LAYER_LISTS]
    kinds = list(zip(*(one for one in lists if isinstance(one, list) and len(one) == depth), strict=True))
    kinds = kinds or [()] * depth
    return next((n for n in range(1, depth // 3 + 1) if kinds[n:] == kinds[:-n] and depth % n == 0), 0)


def with_depth(config: Any, depth: int) -> Any:
    """The same config with fewer layers."""
    shorter = copy.deepcopy(config)
    text = shorter.get_text_config()
    for name in LAYER_LISTS:
        if isinstance(getattr(text, name, None), list):
            setattr(text, name, getattr(text, name)[:depth])
    for name in LAYER_COUNTS:
        if isinstance(getattr(text, name, None), int):
            setattr(text, name, depth)
    return shorter


def build(config: Any, cls: Any, settings: ModelConfig, method: MethodConfig, *, bf16: bool, device: str) -> nn.Module:
    """The model as ``trainkit.model.load_trainable`` gives it, within fake tensors, on ``device``; a quantised base is
    built as a frozen one of the type that it computes in. Raises ``CannotFollow``."""
    from trainkit.methods import ADAPTED, METHODS
    from trainkit.methods.adapters import share_tied
    from trainkit.model import ATTENTION
    from trainkit.precision import base_dtype, set_precision

    attention = ATTENTION.get(settings.flash_attn)
    try:
        with torch.device(device):
            dtype = base_dtype(method.finetuning_type, bf16=bf16, pure_bf16=method.pure_bf16)
            model = cls._from_config(config, dtype=dtype, **({"attn_implementation": attention} if attention else {}))
            model = METHODS[method.finetuning_type](model, _without_values(method))
            if method.finetuning_type in ADAPTED:
                share_tied(model)
        set_precision(model, bf16=bf16, pure_bf16=method.pure_bf16, upcast_layernorm=settings.upcast_layernorm)
    except Exception as error:  # the code of some 300 architectures
        raise CannotFollow(f"{cls.__name__} cannot be built from its config alone ({_line(error)})") from error
    return model.train()


def _without_values(method: MethodConfig) -> MethodConfig:
    """PiSSA begins with the singular values of the weights: the same shapes as of plain LoRA, without the work."""
    from dataclasses import replace

    return replace(method, pissa_init=False)


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The decoder's layers: its longest list of modules of one class. Raises ``CannotFollow`` where there is none."""
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len({type(one) for one in m}) == 1]
    if not lists:
        raise CannotFollow("it has no list of layers")
    return max(lists, key=len)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).strip().splitlines()[:1])[:160]}"
