"""Export: adapters merged into the base and written as one ordinary model folder, checked after the merge."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn

from registry.atomic import atomic_folder
from registry.errors import StoppedError, UsageError
from registry.manifest import Ledger, build_manifest, manifest_path, write_manifest
from registry.tokenizer import open_tokenizer
from trainkit.chat_template import chat_template_of
from trainkit.config import RunConfig
from trainkit.hub import adapter_folders, adapter_paths, tokenizer_folder
from trainkit.layout import save_weights
from trainkit.loading import loaded
from trainkit.methods.adapters import merge_adapters, put_on, untie_for, warn_of_other_bases
from trainkit.model import (
    DTYPES,
    align_special_ids,
    check_room,
    load_base,
    tokenizer_to_save,
)
from trainkit.modelfile import modelfile_of
from trainkit.new_tokens import new_tokens
from trainkit.preflight import check_swappable
from trainkit.quantize import is_quantised
from trainkit.rules import render_rules
from trainkit.vocabulary import fit_to_adapter, resize_to

log = logging.getLogger("tunekit")

PROBE_LENGTH = 16  # tokens of the sequence on which merged and unmerged logits are compared
TOLERANCE = 1e-3  # largest difference of float32 logits that rounding in the merge explains


def export_model(config: RunConfig) -> dict[str, Any]:
    """Merge and write ``export_dir``, whole or not at all; an earlier export of ours there is replaced.

    Raises ``UsageError`` where the folder holds anything else, ``StoppedError`` where the merged model differs.
    """
    if not config.export.export_dir:
        raise UsageError('"export_dir" is missing: name the folder for the merged model', where=config.source)
    target = Path(config.export.export_dir)
    check_swappable(target)
    if target.is_dir() and any(target.iterdir()) and not manifest_path(target).is_file():
        raise UsageError(
            "the folder is not empty, and no earlier export", where=str(target), mend="Choose another export_dir."
        )
    adapters = [str(path) for path in adapter_paths(config.model)]
    for name in (config.model.model_name_or_path, *adapters):
        if Path(name).is_dir() and Path(name).resolve().is_relative_to(target.resolve()):
            raise UsageError(
                f'"export_dir" holds what is to be exported ({name}), and writing it would destroy that',
                where=str(target),
                mend="Choose another export_dir.",
            )
    source = tokenizer_folder(config.model)
    tokenizer, _ = open_tokenizer(
        source, config.data.template, rules=render_rules(config), added=new_tokens(config.model)
    )
    # Merged in float32 and rounded once: merging in bfloat16 would round every adapter's product too.
    model = load_base(config.model, torch.float32)
    if is_quantised(model):
        raise UsageError(
            "the weights are quantised, and export writes ordinary ones",
            where=config.model.model_name_or_path,
            mend="Name the unquantised model; an adapter that was trained on quantised weights fits it too.",
        )
    adapters = adapter_folders(config.model)
    warn_of_other_bases(config.model.model_name_or_path, adapters)
    for adapter in adapters:
        fit_to_adapter(model, adapter)
    resize_to(model, tokenizer, config.model, seed=config.loop.seed)
    check_room(model, tokenizer)
    align_special_ids(model, tokenizer)
    model, difference = _merge_checked(model, adapters)
    dtype = _dtype(config)
    model = model.to(dtype)
    model.config.use_cache = True  # type: ignore[union-attr]
    chat_template = chat_template_of(config.data.template, tokenizer, render_rules(config))
    saved_tokenizer = tokenizer_to_save(config.model, tokenizer, source, chat_template)
    limit = getattr(model.config, "max_position_embeddings", None)
    modelfile = modelfile_of(config.data.template, tokenizer, render_rules(config), limit)
    facts = {
        "export_dir": str(target),
        "parameters": sum(p.numel() for p in model.parameters()),
        "dtype": str(dtype).removeprefix("torch."),
        "adapters": adapters,
        "largest_logit_difference": difference,
    }
    manifest = build_manifest("trainkit export", config.flat(), [], Ledger())
    with atomic_folder(target) as folder:
        save_weights(folder, model, saved_tokenizer, max_shard_size=f"{config.export.export_size}GB")
        (folder / "Modelfile").write_text(modelfile, "utf-8")
        write_manifest(target, manifest | facts)  # before the swap: it is what tells an export of ours
    return {"command": "export", "outputs": [str(target)], **facts}


def _dtype(config: RunConfig) -> torch.dtype:
    """``infer_dtype`` where it is set, else what the base's weights were saved in."""
    if config.model.infer_dtype != "auto":
        return DTYPES[config.model.infer_dtype]
    from transformers import AutoConfig

    model = config.model
    options = {
        "revision": model.model_revision,
        "cache_dir": model.cache_dir,
        "trust_remote_code": model.trust_remote_code,
    }
    name = model.model_name_or_path
    found = loaded(name, lambda: AutoConfig.from_pretrained(name, **options))
    dtype = getattr(found, "dtype", None)
    return getattr(torch, dtype) if isinstance(dtype, str) else dtype or torch.float32


@torch.no_grad()
def _merge_checked(model: nn.Module, adapters: list[str]) -> tuple[nn.Module, float | None]:
    """The merged model, and by how much its logits differ from those of base and adapter apart."""
    if not adapters:
        return model, None
    base = merge_adapters(model, adapters[:-1])
    untie_for(base, adapters[-1])
    unmerged = put_on(base, adapters[-1]).eval()
    probe = torch.arange(PROBE_LENGTH)[None] % model.get_input_embeddings().weight.shape[0]  # type: ignore[operator, union-attr]
    before = unmerged(input_ids=probe).logits
    merged = unmerged.merge_and_unload()  # type: ignore[operator]
    difference = float((merged(input_ids=probe).logits - before).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(before.abs().max())):
        raise StoppedError(
            f"the merged model's logits differ from the adapter's by {difference:.3g}; nothing was written",
            mend="Export with infer_dtype: float32; if that does not help, please report it.",
        )
    log.info("merged; the largest difference of a logit is %.1e", difference)
    return merged, difference
