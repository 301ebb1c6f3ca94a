"""A two-layer model with a loss, of the objective's shape, and a short training with any backend to be compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from trainkit.backends import open_backend, open_group
from trainkit.backends.process_group import Group
from trainkit.config import load_config

VOCABULARY = 96
ROWS, LENGTH = 8, 12


@dataclass(frozen=True)
class Setup:
    """How a cell trains: keys of the config, the model, steps, and how the rows of a step are cut."""

    keys: dict[str, Any] = field(default_factory=dict)
    tied: bool = True
    lora: bool = False
    recompute: bool = False
    v_head: bool = False
    accumulation: int = 2
    steps: int = 3
    lr: float = 0.01
    discard: bool = False  # one forward and backward is thrown away first


class Objective(nn.Module):
    """Sum of the tokens' losses, the head's weight read outside of its module."""

    def __init__(self, model: nn.Module, *, v_head: bool) -> None:
        super().__init__()
        self.model = model
        self.v_head = nn.Linear(32, 1) if v_head else None

    def forward(self, batch: dict[str, torch.Tensor], reference: torch.Tensor | None = None) -> Any:
        causal = self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model
        hidden = causal.base_model(input_ids=batch["ids"], use_cache=False).last_hidden_state
        logits = (hidden @ causal.get_output_embeddings().weight.T).float()
        loss = nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), reduction="sum"
        )
        if self.v_head is not None:
            loss = loss + self.v_head(hidden[:, -1].float()).square().sum()
        return loss, {"rows": torch.tensor(float(len(batch["ids"])))}


def make_model(setup: Setup) -> nn.Module:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(7)
    model: Any = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, tie_word_embeddings=setup.tied,
        )
    )  # fmt: skip
    if setup.lora:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM"))
    if setup.recompute:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def config_of(setup: Setup) -> Any:
    keys = {
        "model_name_or_path": "tiny", "dataset": "rows", "template": "qwen", "do_train": True, "output_dir": "out",
        "use_cpu": True, "per_device_train_batch_size": ROWS // setup.accumulation, "max_steps": setup.steps,
        "gradient_accumulation_steps": setup.accumulation, "learning_rate": setup.lr, "max_grad_norm": 0.5,
    }  # fmt: skip
    return load_config(keys | setup.keys)


def adamw(parameters: list[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for _, p in parameters], lr=1.0, weight_decay=0.1, fused=True)


def micro_batches(step: int, rank: int, world_size: int, accumulation: int) -> list[dict[str, torch.Tensor]]:
    """This rank's share of a step's rows, cut into micro-batches; labels are masked unevenly."""
    drawn = torch.Generator().manual_seed(100 + step)
    ids = torch.randint(0, VOCABULARY, (ROWS, LENGTH), generator=drawn)
    labels = ids.clone()
    labels[torch.rand(ids.shape, generator=drawn) < torch.linspace(0, 0.8, ROWS)[:, None]] = -100
    mine = torch.arange(ROWS)[rank::world_size].chunk(accumulation)
    return [{"ids": ids[rows], "labels": labels[rows]} for rows in mine]


def forward_backward(backend: Any, step: int, accumulation: int) -> torch.Tensor:
    batches = micro_batches(step, backend.rank, backend.world_size, accumulation)
    (weight,) = backend.sum_numbers([float(sum((b["labels"][:, 1:] != -100).sum() for b in batches))])
    total = torch.zeros(())
    for number, batch in enumerate(batches, start=1):
        with backend.accumulate(last=number == len(batches)):
            loss, _ = backend.module(batch, None)
            backend.backward(loss / weight)
        total += loss.detach()
    return backend.sum(total) / weight


def train(setup: Setup, state: dict[str, Any] | None = None, group: Group | None = None) -> dict[str, Any]:
    """A few steps; what came of them, and the state to go on from. ``state``: of an earlier call."""
    config = config_of(setup)
    backend: Any = open_backend(config, group or open_group(config))
    accumulation = max(1, setup.accumulation // backend.world_size)
    model = make_model(setup)
    objective = Objective(model, v_head=setup.v_head)
    if state:
        own = {f"model.{k}" if not k.startswith("v_head.") else k: v for k, v in state["weights"].items()}
        missing, unknown = objective.load_state_dict(own, strict=False)
        assert not unknown
        assert setup.lora or not missing
    backend.prepare(objective, adamw)
    backend.module.train()
    start = 0
    if state:
        # cloned: what came through a pipe lies in memory that both processes see
        backend.load_optimizer_state({name: value.clone() for name, value in state["optimizer"].items()})
        backend.set_random_state(state["random"])
        start = state["step"]
    if setup.discard:
        forward_backward(backend, 50, accumulation)
        backend.clip(setup.keys.get("max_grad_norm", 0.5))
        backend.zero_grad()
    losses, norms = [], []
    for step in range(start, start + setup.steps):
        losses.append(float(forward_backward(backend, step, accumulation)))
        norms.append(float(backend.clip(0.5)))
        backend.step(setup.lr)
    found = {"weights": backend.weights(), "optimizer": backend.optimizer_state(), "random": backend.random_state()}
    kinds = {
        type(m).__mro__[1].__name__ if "FSDP" in type(m).__name__ else type(m).__name__
        for m in backend.module.modules()
    }
    some = next(p for p in backend.module.parameters() if p.requires_grad)
    return found | {
        "step": start + setup.steps, "losses": losses, "norms": norms, "kinds": kinds, "backend": backend.name,
        "module": type(backend.module).__name__, "optimizer_kind": type(backend.optimizer).__name__,
        "local": some.to_local().numel() if hasattr(some, "to_local") else getattr(some, "ds_tensor", some).numel(),
        "whole": getattr(some, "ds_numel", some.numel()), "parameter": type(some).__name__,
    }  # fmt: skip


def train_together(setup: Setup, state: dict[str, Any] | None = None) -> dict[str, Any]:
    """``train`` in a process of a pair, whose group stays for the next test."""
    return train(setup, state, _group(config_of(setup)))


GROUPS: list[Group] = []


def _group(config: Any) -> Group:
    if not GROUPS:
        GROUPS.append(open_group(config))
    return GROUPS[0]
