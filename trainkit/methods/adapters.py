"""Adapters that were trained before: put on a base to be trained on or asked, or merged into it."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from registry.errors import UsageError
from trainkit.config import MethodConfig, ModelConfig
from trainkit.hub import adapter_folders, adapters_below
from trainkit.loading import loaded
from trainkit.methods import pissa
from trainkit.methods.oft import let_blocks_drop
from trainkit.parameters import weight_shapes
from trainkit.quantize import is_quantised
from trainkit.vocabulary import fit_to_adapter

log = logging.getLogger("tunekit")

SHOWN = 3  # of modules that do not fit


def put_on(base: nn.Module, adapter: str, *, trained: bool = False) -> nn.Module:
    """``base`` with the adapter of a folder on it, unmerged; in training mode and to be trained only if ``trained``.

    Raises ``UsageError`` for an adapter of another model, or a damaged one.
    """
    from peft import PeftConfig, PeftModel

    fit_to_adapter(base, adapter)
    check_fits(base, Path(adapter))
    config: Any = loaded(adapter, lambda: PeftConfig.from_pretrained(adapter))
    begun = getattr(config, "init_lora_weights", None)
    if pissa.is_pissa(Path(adapter)):
        config.init_lora_weights = True  # peft would compute another residual; ours is restored below
    adapted = loaded(adapter, lambda: PeftModel.from_pretrained(base, adapter, config=config, is_trainable=trained))
    if pissa.is_pissa(Path(adapter)):
        adapted.peft_config["default"].init_lora_weights = begun
        pissa.restore_residual(adapted, Path(adapter), trained=trained)
    let_blocks_drop(adapted)
    share_tied(adapted)
    return adapted


def last_adapter(settings: ModelConfig, method: MethodConfig) -> str | None:
    """The folder of the adapter that a new run goes on training, where it names one."""
    folders = [] if method.create_new_adapter else adapter_folders(settings)
    return folders[-1] if folders else None


def load_again(adapted: nn.Module, adapter: str) -> None:
    """The adapter's weights once more, after the model's were widened: they were rounded to the narrow type."""
    from peft import set_peft_model_state_dict
    from peft.utils.save_and_load import load_peft_weights

    set_peft_model_state_dict(adapted, load_peft_weights(adapter, device="cpu"))


def merge_adapters(model: nn.Module, adapters: Sequence[str]) -> nn.Module:
    """The base with adapters merged into its weights, one after another. Raises ``UsageError`` for a quantised base."""
    if adapters and is_quantised(model):
        raise UsageError(
            f"adapters cannot be merged into a quantised base: {', '.join(adapters)}",
            mend="Name the unquantised model, or at most one adapter.",
        )
    for adapter in adapters:
        untie_for(model, adapter)
        adapted = put_on(model, adapter)
        model = loaded(adapter, lambda a=adapted: a.merge_and_unload())
    return model


def share_tied(adapted: Any) -> None:
    """Let a head and embeddings that are both trained whole share one tensor again where the base's do; not where an
    adapter of another tool trained them apart."""
    base = adapted.get_base_model()
    head, embeddings = base.get_output_embeddings(), base.get_input_embeddings()
    if head is None or not getattr(base.config.get_text_config(), "tie_word_embeddings", False):
        return
    copies = [getattr(module, "modules_to_save", {}) for module in (head, embeddings)]
    if all("default" in held for held in copies):
        one, other = (held["default"] for held in copies)
        if torch.equal(one.weight, other.weight):
            one.weight = other.weight


def untie_for(base: Any, adapter: str) -> None:
    """Give a tied head a weight of its own, in place, where an adapter changes it and the embeddings differently: merged
    into one tensor, what is for the one would change the other too."""
    head, embeddings = base.get_output_embeddings(), base.get_input_embeddings()
    if head is None or head.weight is not embeddings.weight:
        return
    config = json.loads((Path(adapter) / pissa.CONFIG).read_text(encoding="utf-8"))
    held = weight_shapes(Path(adapter), prefix="adapter_model")
    names = {f"base_model.model.{name}." for name, m in base.named_modules() if m is head or m is embeddings}
    touched = {name for name in held if name.startswith(tuple(names))}
    whole = touched & {f"{name}weight" for name in names}
    if not touched or (whole == touched and (config.get("ensure_weight_tying") or _are_equal(adapter, whole, names))):
        return
    head.weight = nn.Parameter(embeddings.weight.detach().clone(), requires_grad=False)
    base.config.get_text_config().tie_word_embeddings = False
    base.config.tie_word_embeddings = False
    log.info("%s changes the head and the embeddings apart, so they share no weight any more", adapter)


def _are_equal(adapter: str, whole: set[str], names: set[str]) -> bool:
    """Whether an adapter holds both of the tied weights, and the same."""
    if len(whole) != len(names):
        return False
    from safetensors import safe_open

    with safe_open(Path(adapter) / pissa.WEIGHTS, framework="pt") as file:
        one, *others = (file.get_tensor(name) for name in whole)
    return all(torch.equal(one, other) for other in others)


def kind_of(adapter: str) -> str:
    """ "lora", "oft" or what else peft calls an adapter's kind. Raises ``UsageError`` for a config that is none."""
    path = Path(adapter) / pissa.CONFIG
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["peft_type"]).lower()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{pissa.CONFIG} is none that peft reads: {error}", where=adapter) from None


def check_kind(adapter: str, finetuning_type: str) -> None:
    """Raise ``UsageError`` where an adapter that is to be trained on is of another kind than the config says."""
    kind = kind_of(adapter)
    if kind != finetuning_type:
        mend = f"Write finetuning_type: {kind}" if kind in ("lora", "oft") else "Merge it first (trainkit export)"
        raise UsageError(
            f"this is an adapter of kind {kind}, and finetuning_type is {finetuning_type}",
            where=adapter,
            mend=f"{mend}, or begin a new one on top of it with create_new_adapter: true.",
        )


def check_fits(base: nn.Module, adapter: Path) -> None:
    """Raise ``UsageError`` where an adapter has weights for modules that the base lacks, or of another size: which, and
    what sizes. Adapters that are not saved as .safetensors are left to peft."""
    modules = dict(base.named_modules())
    faults = []
    for name, shape in weight_shapes(adapter, prefix="adapter_model").items():
        module, _, kind = name.removeprefix("base_model.model.").rpartition(".lora_")
        if not module:
            module, _, kind = name.removeprefix("base_model.model.").rpartition(".oft_")
        if not module:
            continue
        if module not in modules:
            faults.append(f"{module} is not there")
            continue
        width, height = _sizes(modules[module])
        if kind == "A.weight" and width not in (None, shape[1]):
            faults.append(f"{module} takes {width} inputs, the adapter's {shape[1]}")
        elif kind == "B.weight" and height not in (None, shape[0]):
            faults.append(f"{module} has {height} outputs, the adapter's {shape[0]}")
    if faults:
        more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise UsageError(
            f"the adapter belongs to another model: {'; '.join(faults[:SHOWN])}{more}",
            where=str(adapter),
            mend="Name the model that it was trained on as model_name_or_path.",
        )


def _sizes(module: nn.Module) -> tuple[int | None, int | None]:
    """(inputs, outputs) of a linear layer; None where it does not tell."""
    if type(module).__name__ == "Conv1D":
        return tuple(module.weight.shape)  # type: ignore[arg-type]
    return getattr(module, "in_features", None), getattr(module, "out_features", None)


def warn_of_other_bases(base: str, adapters: Sequence[str]) -> None:
    """Warn where an adapter names another base than the one it is put on: the shapes alone would fit."""
    for adapter in adapters:
        path = Path(adapter) / pissa.CONFIG
        named = json.loads(path.read_text(encoding="utf-8")).get("base_model_name_or_path") if path.is_file() else None
        missing = [below for below in adapters_below(Path(adapter)) if below not in adapters]
        if missing:
            log.warning(
                "%s was trained on top of %s, which adapter_name_or_path does not list", adapter, ", ".join(missing)
            )
        if named and Path(named).resolve() != Path(base).resolve():
            log.warning("%s was trained on %s, and is put on %s", adapter, named, base)
