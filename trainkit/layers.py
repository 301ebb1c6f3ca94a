"""Which of a model's layers are trained, told by the names of its weights alone: in memory and in the files they are
the same."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from registry.errors import UsageError, did_you_mean
from trainkit.config import MethodConfig

NUMBERED = re.compile(r"^(?P<path>.*?)\.?(?P<index>\d+)\.(?P<rest>.+)$")


@dataclass(frozen=True, slots=True)
class Layers:
    """``path`` of the list of layers ("model.layers"), the ``count`` of them, and the names of the weights: ``inner`` by
    layer, each with what follows the layer's number, and ``outer``."""

    path: str
    count: int
    inner: dict[str, tuple[int, str]]
    outer: tuple[str, ...]


def layers_of(names: Iterable[str], num_layers: int | None = None) -> Layers:
    """The longest list of layers among the weights' ``names``, or the one of ``num_layers`` (as the config counts them;
    towers for images have layers of their own).

    Raises ``UsageError`` where no weight belongs to a numbered layer, or no list is ``num_layers`` long.
    """
    names = list(names)
    found: dict[str, dict[int, list[tuple[str, str]]]] = {}
    for name in names:
        if match := NUMBERED.match(name):
            by_index = found.setdefault(match["path"], {})
            by_index.setdefault(int(match["index"]), []).append((name, match["rest"]))
    counts = {path: len(by_index) for path, by_index in found.items()}
    if not counts:
        raise UsageError("the model has no numbered layers, so none can be chosen from them")
    fitting = [path for path, count in counts.items() if count == num_layers]
    if num_layers is not None and not fitting:
        lists = ", ".join(f"{count} of {path}" for path, count in counts.items())
        raise UsageError(f"config.json names {num_layers} layers, and the weights have {lists}")
    path = fitting[0] if fitting else max(counts, key=lambda p: counts[p])
    inner = {name: (index, rest) for index, held in found[path].items() for name, rest in held}
    return Layers(path, counts[path], inner, tuple(name for name in names if name not in inner))


def is_within(name: str, module: str) -> bool:
    """Whether the weight ``name`` belongs to ``module``, a whole component (or several) of its name."""
    return f".{module}." in f".{name}."


def trained_names(names: Iterable[str], method: MethodConfig, num_layers: int | None) -> list[str]:
    """Of all weights' names those that are trained. Raises ``UsageError`` for more layers than there are and for
    modules that are not there."""
    layers = layers_of(names, num_layers)
    chosen = set(chosen_layers(layers.count, method))
    modules, extra = method.freeze_trainable_modules, method.freeze_extra_modules or ()
    if "all" not in modules:
        _check_modules("freeze_trainable_modules", modules, [rest for _, rest in layers.inner.values()])
    _check_modules("freeze_extra_modules", extra, layers.outer)
    inner = [
        name
        for name, (index, rest) in layers.inner.items()
        if index in chosen and ("all" in modules or any(is_within(rest, module) for module in modules))
    ]
    return inner + [name for name in layers.outer if any(is_within(name, module) for module in extra)]


def chosen_layers(count: int, method: MethodConfig) -> list[int]:
    """The numbers of the layers to train, of ``count``. Raises ``UsageError`` where there are not as many."""
    asked = method.freeze_trainable_layers
    if method.use_llama_pro:
        return spread_layers(count, asked)
    if not 0 < abs(asked) <= count:
        raise UsageError(
            f"freeze_trainable_layers is {asked}, and the model has {count} layers",
            mend=f"Write 1 to {count} for the last layers, -1 to -{count} for the first, or finetuning_type: full.",
        )
    return list(range(count - asked, count)) if asked > 0 else list(range(-asked))


def spread_layers(count: int, groups: int) -> list[int]:
    """The last layer of each of ``groups`` equal groups of ``count`` layers: there LLaMA Pro (Wu et al.
    2024, arXiv 2401.02415) puts the blocks that it adds, which alone are trained.

    Raises ``UsageError`` where the layers do not divide into that many groups.
    """
    if groups < 1 or count % groups:
        fitting = [n for n in range(1, count + 1) if count % n == 0]
        raise UsageError(
            f"use_llama_pro: {count} layers do not divide into {groups} equal groups (freeze_trainable_layers)",
            mend=f"Write as many as blocks were added to the model; its layers divide into {', '.join(map(str, fitting))}.",
        )
    size = count // groups
    return list(range(size - 1, count, size))


def _check_modules(key: str, asked: Iterable[str], names: Iterable[str]) -> None:
    names = list(names)
    unknown = [module for module in asked if not any(is_within(name, module) for name in names)]
    if unknown:
        known = sorted({part for name in names for part in name.split(".")[:-1] if not part.isdigit()})
        raise UsageError(
            f"{key} names no module of this model: {', '.join(unknown)}",
            mend=f"There is: {', '.join(known)}. {did_you_mean(unknown[0], known)}".rstrip(),
        )
