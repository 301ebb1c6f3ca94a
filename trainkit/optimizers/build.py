"""The optimizer that a config names, over the weights that are trained."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from torch import nn

from registry.errors import UsageError
from trainkit.config import MethodConfig, OptimConfig
from trainkit.optimizers import adam_mini, apollo, badam, galore, lomo, muon, named
from trainkit.optimizers.groups import Named, apply_learning_rate, decay_groups
from trainkit.optimizers.names import APOLLO_NAMES, GALORE_NAMES, LOMO, is_layerwise, package_of

Build = Callable[[OptimConfig, nn.Module, Named], torch.optim.Optimizer]

# key of the config -> (its builder, the module it needs, what pip installs)
CHOICES: dict[str, tuple[Build, str, str]] = {
    "use_galore": (galore.build, "galore_torch", "galore-torch"),
    "use_apollo": (apollo.build, "apollo_torch", "apollo-torch"),
    "use_badam": (badam.build, "badam", "badam"),
    "use_adam_mini": (adam_mini.build, "adam_mini", "adam-mini"),
    "use_muon": (muon.build, "torch", "torch"),
}


def build_optimizer(
    settings: OptimConfig, method: MethodConfig, model: nn.Module, trainable: Named
) -> torch.optim.Optimizer:
    """The optimizer over ``trainable`` (names as in ``model.named_parameters()``), its groups at their learning rates.

    AdamW (Loshchilov and Hutter 2019) is torch's fused one, the quickest on CPU and GPU. Groups may carry ``lr_scale``;
    an optimizer with ``in_backward`` updates within the backward pass and needs its rate before that; one with
    ``train`` and ``eval`` holds other weights for training than for use. Raises ``UsageError`` where a package is
    missing, targets match nothing, or what is chosen does not work as the weights lie.
    """
    chosen = next((key for key in CHOICES if getattr(settings, key)), None)
    _check_where_it_runs(settings, chosen, trainable)
    if chosen:
        build, module, package = CHOICES[chosen]
        _need(f"{chosen}: true", module, package)
        optimizer = build(settings, model, trainable)
    else:
        if needed := package_of(settings.optim):
            _need(f"optim: {settings.optim}", *needed)
        optimizer = _by_name(settings, method, model, trainable)
    apply_learning_rate(optimizer.param_groups, settings.learning_rate)
    return optimizer


def _by_name(settings: OptimConfig, method: MethodConfig, model: nn.Module, trainable: Named) -> torch.optim.Optimizer:
    if settings.optim in GALORE_NAMES:
        return galore.build_named(settings, model, trainable)
    if settings.optim in APOLLO_NAMES:
        return apollo.build_named(settings, model, trainable)
    if settings.optim in LOMO:
        return lomo.build(settings, model, trainable)
    shares = None
    if method.loraplus_lr_ratio is not None:
        shares = (method.loraplus_lr_ratio, method.loraplus_lr_embedding / settings.learning_rate)
    return named.build(settings, model, decay_groups(model, trainable, settings.weight_decay, shares))


def _need(what: str, module: str, package: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise UsageError(
            f'"{what}" needs the package {package}, which is not installed', mend=f"Install it: pip install {package}"
        )


def _check_where_it_runs(settings: OptimConfig, chosen: str | None, trainable: Named) -> None:
    """Refuse what cannot be right with several processes, or with weights of which each process has a part."""
    what = f"{chosen}: true" if chosen else f"optim: {settings.optim}"
    layerwise = (chosen == "use_galore" and settings.galore_layerwise) or (
        chosen == "use_apollo" and settings.apollo_layerwise
    )
    alone = layerwise or chosen == "use_badam" or (chosen is None and is_layerwise(settings.optim))
    processes = torch.distributed.get_world_size() if _distributed() else 1
    if alone and processes > 1:
        why = "updates weights before the processes have exchanged their gradients" if chosen != "use_badam" else (
            "trains one block at a time, which the exchange of gradients between processes does not know of"
        )  # fmt: skip
        raise UsageError(
            f'"{what}"{" with layerwise" if layerwise else ""} {why}; {processes} processes are running',
            mend="Train with one process, or choose another optimizer.",
        )
    sharded = any(hasattr(parameter, "device_mesh") for _, parameter in trainable)
    whole = chosen in ("use_galore", "use_apollo", "use_adam_mini", "use_badam") or (
        chosen is None and (package_of(settings.optim) or ("",))[0] in NEED_WHOLE_WEIGHTS
    )
    if sharded and whole:
        raise UsageError(
            f'"{what}" needs whole weights, and here each process holds a part of every one',
            mend="Choose the backend ddp, or an optimizer that works on parts: adamw_torch.",
        )


# Their arithmetic looks at the whole of a weight, or their kernels know no parts.
NEED_WHOLE_WEIGHTS = ("galore_torch", "apollo_torch", "lomo_optim", "bitsandbytes", "grokadamw", "optimi")


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
