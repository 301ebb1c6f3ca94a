"""Two-layer models, a config's optimizer over them, and steps: what the optimizers' tests share."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from trainkit.config import load_config
from trainkit.optimizers.build import build_optimizer
from trainkit.optimizers.groups import Named, apply_learning_rate

IDS = torch.arange(48).reshape(2, 24) * 7 % 32


def qwen2(*, seed: int = 0, tied: bool = False, dtype: torch.dtype = torch.float32, hidden_size: int = 16) -> nn.Module:
    """Two layers of 2 heads over 32 tokens; at ``hidden_size`` 64 its matrices are of 4096 weights and more."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    sizes = {"vocab_size": 32, "hidden_size": hidden_size, "intermediate_size": 64, "num_hidden_layers": 2}
    config = Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=tied)
    return Qwen2ForCausalLM(config).to(dtype)


def lora(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """A LoRA of rank 2 on every linear layer, B not zero, so that A has gradients too."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))  # type: ignore[arg-type, assignment]
    return model


def trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def keys(**changes: Any) -> dict[str, Any]:
    return {"model_name_or_path": "m", "finetuning_type": "full", "learning_rate": 0.003, **changes}


def optimizer_of(model: nn.Module, trainable: Named | None = None, **changes: Any) -> torch.optim.Optimizer:
    """What a config with these keys builds over the trained weights of ``model``."""
    config = load_config(keys(**changes))
    return build_optimizer(config.optim, config.method, model, trainable or trained(model))


def take_steps(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, *, lr: float = 0.003, clip: float | None = None
) -> list[float]:
    """The losses before each of ``steps`` updates, all on the same batch."""
    from trainkit.optimizers.clip import clip_gradients

    losses = []
    for _ in range(steps):
        apply_learning_rate(optimizer.param_groups, lr)
        loss = model(input_ids=IDS, labels=IDS).loss
        loss.backward()
        if clip is not None:
            clip_gradients(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}
