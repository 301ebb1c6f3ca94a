"""The optimizers that transformers names, built with what its Trainer would give them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from registry.errors import UsageError
from trainkit.config import OptimConfig
from trainkit.optimizers.names import ADAMW_TORCH, NUMBER, OPTIM_ARGS, TRUTH, WHOLE, read_optim_args


def build(settings: OptimConfig, model: nn.Module, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """``settings.optim`` over ``groups``. Raises ``UsageError`` where its package cannot be used as it is installed."""
    if settings.optim in ADAMW_TORCH:
        return torch.optim.AdamW(groups, **adam_settings(settings), weight_decay=settings.weight_decay, fused=True)
    kind, options = class_and_options(settings)
    try:
        optimizer = kind(groups, **options)
    except (ImportError, RuntimeError) as error:
        raise UsageError(f'"optim: {settings.optim}" does not work here: {error}') from error
    if "bitsandbytes" in kind.__module__ and options.get("optim_bits") == 8:
        _keep_embeddings_at_32_bits(model)
    if hasattr(optimizer, "train"):
        optimizer.train()  # schedule-free: the weights that gradients are taken at
    return optimizer


def adam_settings(settings: OptimConfig) -> dict[str, Any]:
    """Learning rate, betas and epsilon, by the names that torch's Adam has for them."""
    return {
        "lr": settings.learning_rate,
        "betas": (settings.adam_beta1, settings.adam_beta2),
        "eps": settings.adam_epsilon,
    }


def class_and_options(settings: OptimConfig) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """The class and its options, as ``transformers.Trainer`` finds them for this name."""
    from transformers import Trainer

    # What that function reads of a Trainer's arguments; the real ones would choose devices and start processes.
    asked: Any = SimpleNamespace(
        optim=settings.optim,
        learning_rate=settings.learning_rate,
        adam_beta1=settings.adam_beta1,
        adam_beta2=settings.adam_beta2,
        adam_epsilon=settings.adam_epsilon,
        weight_decay=settings.weight_decay,
        warmup_steps=int(settings.warmup_steps),
        optim_args=_as_transformers_reads(settings),
    )
    try:
        with _log_left_alone():
            kind, options = Trainer.get_optimizer_cls_and_kwargs(asked)
    except (ImportError, ValueError) as error:
        raise UsageError(f'"optim: {settings.optim}" cannot be used: {error}') from error
    known = OPTIM_ARGS.get(settings.optim, {})
    return kind, {k: _number(v) if isinstance(v, str) and k in known else v for k, v in options.items()}


def typed_args(settings: OptimConfig) -> dict[str, Any]:
    """``optim_args`` by name, as numbers, truths and words."""
    known = OPTIM_ARGS.get(settings.optim, {})
    return {name: _typed(text, known[name]) for name, text in read_optim_args(settings.optim_args).items()}


def _typed(text: str, kind: str | tuple[str, ...]) -> Any:
    if kind == TRUTH:
        return text.casefold() == "true"
    return float(text) if kind == NUMBER else int(float(text)) if kind == WHOLE else text


def _as_transformers_reads(settings: OptimConfig) -> str:
    """``optim_args`` with its truths and whole numbers as that reader takes them: ``bool("false")`` is true to it."""
    said = typed_args(settings)
    untrue = "" if settings.optim == "stable_adamw" else "false"
    return ",".join(f"{k}={untrue if v is False else str(v).lower() if v is True else v}" for k, v in said.items())


def _number(text: str) -> float | int | str:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


def _keep_embeddings_at_32_bits(model: nn.Module) -> None:
    """Their gradients are too uneven for 8 bits (Dettmers et al. 2022, section 2.3); the Trainer does likewise."""
    import bitsandbytes

    manager = bitsandbytes.optim.GlobalOptimManager.get_instance()
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            manager.register_module_override(module, "weight", {"optim_bits": 32})


@contextmanager
def _log_left_alone() -> Iterator[None]:
    """Some of these packages set up Python's root logger when they are imported."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = before
        root.setLevel(level)
