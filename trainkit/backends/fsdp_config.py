"""What the fsdp keys mean: transformers' words for it (fsdp, fsdp_config), read as a plan for fully_shard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.errors import did_you_mean

if TYPE_CHECKING:
    from trainkit.config import BackendConfig

WORDS = ("full_shard", "shard_grad_op", "hybrid_shard", "hybrid_shard_zero2", "no_shard", "offload", "auto_wrap")
# What fsdp_config may hold: what is read, and what cannot matter here.
READ = ("transformer_layer_cls_to_wrap", "reshard_after_forward", "cpu_offload", "offload_params", "version")
FREE = (
    "min_num_params", "auto_wrap_policy", "backward_prefetch", "backward_prefetch_policy", "forward_prefetch",
    "limit_all_gathers", "use_orig_params", "sync_module_states", "cpu_ram_efficient_loading", "state_dict_type",
    "activation_checkpointing",
)  # fmt: skip
XLA = ("xla", "xla_fsdp_v2", "xla_fsdp_settings", "xla_fsdp_grad_ckpt")


@dataclass(frozen=True, slots=True)
class FsdpPlan:
    """``layer_classes``: what is shared one by one (none: as the model says); ``reshard_after_forward``: a layer's
    weights are dropped after its forward pass and gathered again for the backward one; ``hybrid``: shared within a
    machine, copied between machines; ``offload``: shares rest in the CPU's memory."""

    layer_classes: tuple[str, ...] = ()
    reshard_after_forward: bool = True
    hybrid: bool = False
    offload: bool = False


def read_fsdp(settings: BackendConfig) -> tuple[FsdpPlan | None, list[str]]:
    """The plan, None where FSDP is not asked for; and all that is wrong with the keys."""
    return read_fsdp_keys(settings.fsdp, settings.fsdp_config, settings.fsdp_transformer_layer_cls_to_wrap)


def read_fsdp_keys(fsdp: Any, config: Any, classes: tuple[str, ...] | None) -> tuple[FsdpPlan | None, list[str]]:
    """As ``read_fsdp``, from the keys' values."""
    words = _words(fsdp)
    if words is None:
        return None, []
    faults = [
        f'"fsdp": "{word}" is not one of {", ".join(WORDS)}. {did_you_mean(word, WORDS)}'.rstrip()
        for word in words
        if word not in WORDS
    ]
    if "no_shard" in words:
        faults.append('"fsdp: no_shard" shares nothing, which is what runs without it: remove "fsdp"')
    kinds = [word for word in words if word in ("full_shard", "shard_grad_op", "hybrid_shard", "hybrid_shard_zero2")]
    if len(kinds) > 1:
        faults.append(f'"fsdp": {" and ".join(kinds)} exclude each other')
    plan = FsdpPlan(
        layer_classes=classes or (),
        reshard_after_forward=not {"shard_grad_op", "hybrid_shard_zero2"} & set(words),
        hybrid=bool({"hybrid_shard", "hybrid_shard_zero2"} & set(words)),
        offload="offload" in words,
    )
    found, more = _read_config(config)
    faults += more
    return _with(plan, found, faults), faults


def _words(fsdp: Any) -> list[str] | None:
    """The words of ``fsdp``; none for a plain true; None where it is off."""
    if isinstance(fsdp, list | tuple):
        return [str(word) for word in fsdp] or None
    text = str(fsdp).strip()
    if fsdp in (None, False) or text.casefold() in ("", "false", "none", "null"):
        return None
    return [] if fsdp is True or text.casefold() == "true" else text.replace(",", " ").split()


def _read_config(config: Any) -> tuple[dict[str, Any], list[str]]:
    if not config:
        return {}, []
    if isinstance(config, str | Path):
        try:
            text = str(config)
            config = json.loads(text if text.lstrip().startswith("{") else Path(config).read_text(encoding="utf-8"))
        except OSError as error:
            return {}, [f'"fsdp_config": {config}: {error.strerror or error}']
        except ValueError as error:
            return {}, [f'"fsdp_config": {config} is no JSON: {error}']
    if not isinstance(config, Mapping):
        return {}, [f'"fsdp_config" must hold a mapping, not {type(config).__name__}']
    found = {str(key).removeprefix("fsdp_"): value for key, value in config.items()}
    known = (*READ, *FREE, *XLA)
    faults = [
        f'"fsdp_config": "{key}" is not a key of it. {did_you_mean(key, known)}'.rstrip()
        for key in found
        if key not in known
    ]
    faults += [f'"fsdp_config.{key}" is for TPUs, which are not built in; remove it' for key in XLA if found.get(key)]
    if found.get("activation_checkpointing"):
        faults.append('"fsdp_config.activation_checkpointing": write gradient_checkpointing: true instead')
    return found, faults


def _with(plan: FsdpPlan, found: Mapping[str, Any], faults: list[str]) -> FsdpPlan:
    classes = found.get("transformer_layer_cls_to_wrap") or ()
    classes = tuple(str(c).strip() for c in (classes.split(",") if isinstance(classes, str) else classes))
    again = str(found.get("reshard_after_forward", "")).casefold()
    if again in ("true", "full_shard", "hybrid_shard"):
        plan = replace(plan, reshard_after_forward=True)
    elif again in ("false", "shard_grad_op", "hybrid_shard_zero2"):
        plan = replace(plan, reshard_after_forward=False)
    elif again:
        faults.append(f'"fsdp_config.reshard_after_forward" must be true or false, not {again!r}')
    offload = any(str(found.get(key, "")).casefold() in ("true", "1") for key in ("cpu_offload", "offload_params"))
    return replace(
        plan,
        layer_classes=classes or plan.layer_classes,
        offload=plan.offload or offload,
        hybrid=plan.hybrid or again.startswith("hybrid"),
    )
