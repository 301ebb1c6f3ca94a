"""LoRA (Hu et al. 2021): a low-rank product beside each target's weight; also rsLoRA, DoRA and PiSSA.

A target computes W x + s B A x with s = lora_alpha / lora_rank, or lora_alpha / sqrt(lora_rank) under rsLoRA
(Kalajdzievski 2023, arXiv 2312.03732); DoRA (Liu et al. 2024, arXiv 2402.09353) trains the columns' magnitudes apart.
"""

from __future__ import annotations

from torch import nn

from trainkit.config import MethodConfig
from trainkit.layers import chosen_layers, layers_of
from trainkit.methods import pissa
from trainkit.methods.freeze import num_layers_of
from trainkit.methods.targets import adapter_targets, whole_modules, with_tied, within_layers


def attach(model: nn.Module, method: MethodConfig) -> nn.Module:
    """The base, frozen, with a new adapter; it computes what the base computes. Raises ``UsageError`` for targets that
    are not there."""
    from peft import LoraConfig, TaskType, get_peft_model

    targets = adapter_targets(model, method.lora_target)
    if method.use_llama_pro:
        layers = layers_of((name for name, _ in model.named_parameters()), num_layers_of(model.config))
        targets = within_layers(model, targets, layers.path, chosen_layers(layers.count, method))
    extra = whole_modules(model, method.additional_target)
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=method.lora_rank,
        lora_alpha=method.lora_alpha or 2 * method.lora_rank,
        lora_dropout=method.lora_dropout,
        target_modules=targets,
        use_rslora=method.use_rslora,
        use_dora=method.use_dora,
        modules_to_save=extra,
        ensure_weight_tying=len(with_tied(model, extra)) > len(extra or ()),
    )
    adapted = get_peft_model(model, config)
    if method.pissa_init:
        pissa.begin(adapted, method.pissa_iter)
    return adapted
