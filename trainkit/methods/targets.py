"""The modules that get an adapter, and those that are trained whole beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from registry.errors import UsageError, did_you_mean


def is_linear(module: nn.Module) -> bool:
    """Whether a module multiplies by one matrix; those of quantisers are classes of their own."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D" or hasattr(module, "in_features")


def linear_names(model: nn.Module) -> list[str]:
    """The full names of all linear layers but the head."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    return [name for name, m in model.named_modules() if is_linear(m) and m is not head]


def adapter_targets(model: nn.Module, asked: Sequence[str], key: str = "lora_target") -> list[str]:
    """The names that peft is told: ``all`` is every linear layer but the head (as LLaMA-Factory 0.9.5).

    Raises ``UsageError`` where a name is the end of no linear layer's or embedding's.
    """
    known = sorted({name.rpartition(".")[2] for name in linear_names(model)})
    if "all" in asked:
        if not known:
            raise UsageError(f"{key}: all finds no linear layer in {type(model).__name__}", mend="Name the modules.")
        return known
    fitting = [name for name, m in model.named_modules() if is_linear(m) or isinstance(m, nn.Embedding)]
    unknown = [name for name in asked if not any(_ends_with(one, name) for one in fitting)]
    if unknown:
        raise UsageError(
            f"{key} names no module of this model: {', '.join(unknown)}",
            mend=f"It has: {', '.join(known)}",
        )
    return list(asked)


def within_layers(model: nn.Module, targets: Sequence[str], path: str, chosen: Sequence[int]) -> list[str]:
    """The full names of the targets in the layers ``path``.``chosen``. Raises ``UsageError`` where there is none."""
    layers = tuple(f"{path}.{index}." for index in chosen)
    found = [
        name
        for name, _ in model.named_modules()
        if name.startswith(layers) and any(_ends_with(name, target) for target in targets)
    ]
    if not found:
        raise UsageError(f"lora_target names no module within the layers: {', '.join(targets)}")
    return found


def whole_modules(model: nn.Module, asked: Sequence[str] | None) -> list[str] | None:
    """``additional_target`` as peft takes it. Raises ``UsageError`` for names that no module has."""
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if unknown := [one for one in asked or () if one.rpartition(".")[2] not in names]:
        raise UsageError(
            f"additional_target names no module of this model: {', '.join(unknown)}",
            mend=did_you_mean(unknown[0], names) or None,
        )
    return list(asked or ()) or None


def with_tied(model: Any, asked: Sequence[str] | None) -> list[str]:
    """``additional_target`` with both names of a head that shares its weight with the embeddings, where it has one."""
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    found = list(asked or ())
    if head is None or head.weight is not embeddings.weight:
        return found
    tied = {name.rpartition(".")[2] for name, m in model.named_modules() if m is head or m is embeddings}
    named = {name.rpartition(".")[2] for name in found}
    return found + sorted(tied - named) if tied & named else found


def _ends_with(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")
