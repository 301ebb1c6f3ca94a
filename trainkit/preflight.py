"""Everything about a run that can be known before a model loads: folders, datasets, template, stage and data together."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from registry.dataset_places import find_dataset
from registry.datasets import DatasetEntry
from registry.errors import Faults, UsageError, nearest
from registry.rows.row import is_utf8
from registry.sources import check_sources
from registry.stages import KINDS
from registry.templates import load_template
from trainkit.backends.rules import backend_faults
from trainkit.config import DataConfig, RunConfig
from trainkit.data.streaming import check_streamable
from trainkit.data.tokenized import is_tokenized
from trainkit.new_tokens import descriptions
from trainkit.place import is_launched, place_of

STAGES_FOR = {"text": "pt", "chat": "sft", "preference": "dpo", "feedback": "kto"}


def check_places(config: RunConfig, *, weights: bool = True) -> dict[str, DatasetEntry]:
    """Look at every place that a config names; return its dataset entries by name. Without ``weights`` a folder that
    holds a tokenizer and no model will do.

    Raises ``Faults`` with all that is wrong, together. Nothing heavy is imported: this takes milliseconds.
    """
    faults = _unspeakable(config)
    if faults:
        raise Faults(config.source, faults)
    if weights:
        _collect(faults, lambda: check_model(config.model.model_name_or_path))
    for adapter in config.model.adapter_name_or_path or ():
        _collect(faults, partial(check_adapter, adapter, config.model.adapter_folder))
    _collect(faults, lambda: descriptions(config.model))
    faults += backend_faults(config, place_of().world_size if is_launched() else None)
    if config.data.template is not None:
        _collect(faults, lambda: _check_template(config.data))
    if weights and config.do_train and config.output_dir:
        _collect(faults, lambda: check_writable(Path(config.output_dir or "")))
    entries = _check_datasets(config.stage, config.data, faults)
    if faults:
        raise Faults(config.source, faults)
    return entries


def _unspeakable(config: RunConfig) -> list[str]:
    """Names of places that no file system, or no report in UTF-8, can hold."""
    data = config.data
    named = {
        "dataset": data.dataset or (), "eval_dataset": data.eval_dataset or (), "tokenized_path": (data.tokenized_path,),
        "cache_path": (data.cache_path,), "output_dir": (config.output_dir,),
    }  # fmt: skip
    return [
        f'"{key}": {name!r} holds a NUL, or bytes that are no UTF-8; rename it'
        for key, names in named.items()
        for name in names
        if name and ("\0" in name or not is_utf8(name))
    ]


def _check_template(data: DataConfig) -> None:
    if load_template(data.template or "").efficient_eos and data.train_on_prompt:
        raise UsageError(
            f'"train_on_prompt" does not go with template {data.template}: its replies carry no end marker of their own',
            mend="Remove train_on_prompt, or choose another template (as LLaMA-Factory).",
        )


def _collect(faults: list[str], check: Callable[[], object]) -> None:
    try:
        check()
    except UsageError as error:
        faults.append(str(error))


def check_model(name_or_path: str) -> None:
    """A local model folder must hold a config; what is no folder is taken for a hub id.

    Raises ``UsageError`` naming what is missing, or for a path that does not exist.
    """
    path = Path(name_or_path)
    if path.is_dir():
        if not (path / "config.json").is_file():
            held = ", ".join(sorted(p.name for p in path.iterdir())[:6]) or "nothing"
            adapter = (path / "adapter_config.json").is_file()
            mend = (
                "It is an adapter: name its base here, and this folder as adapter_name_or_path."
                if adapter
                else f"It holds: {held}"
            )
            raise UsageError("the model folder has no config.json", where=name_or_path, mend=mend)
        try:
            kind = json.loads((path / "config.json").read_text(encoding="utf-8")).get("model_type")
        except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
            raise UsageError(f"config.json is not a JSON object: {error}", where=name_or_path) from None
        if not kind:
            raise UsageError('config.json names no "model_type"', where=name_or_path)
    elif path.exists():
        raise UsageError("a model must be a folder, this is a file", where=name_or_path)
    else:
        _check_hub_id(name_or_path, "model")


def check_adapter(name_or_path: str, inner: str | None = None) -> None:
    """Raise ``UsageError`` unless ``name_or_path`` (or the folder ``inner`` in it) is an adapter's, or looks like a hub id."""
    folder = Path(name_or_path) / (inner or "")
    if not Path(name_or_path).is_dir():
        _check_hub_id(name_or_path, "adapter")
    elif inner and not folder.is_dir():
        raise UsageError(f'no folder "{inner}" (adapter_folder) in it', where=name_or_path)
    elif not (folder / "adapter_config.json").is_file():
        raise UsageError("the adapter folder has no adapter_config.json", where=name_or_path)
    elif not any((folder / f"adapter_model.{kind}").is_file() for kind in ("safetensors", "bin")):
        # peft would ask the hub for a repository of this name
        raise UsageError("the adapter folder holds no weights (adapter_model.safetensors)", where=name_or_path)


def _check_hub_id(name: str, kind: str) -> None:
    """Raise ``UsageError`` for what can only have been meant as a folder, with the nearest folder there is."""
    path = Path(name)
    near = nearest(path.name, [p.name for p in path.parent.iterdir() if p.is_dir()]) if path.parent.is_dir() else []
    meant_as_path = name.startswith((".", "/", "~")) or name.count("/") > 1 or ("/" in name and path.parent.is_dir())
    if meant_as_path or near:
        raise UsageError(f"no such {kind} folder", where=name, mend=f"Near it: {', '.join(near)}" if near else None)


def _check_datasets(stage: str, data: DataConfig, faults: list[str]) -> dict[str, DatasetEntry]:
    entries: dict[str, DatasetEntry] = {}
    for name in (*(data.dataset or ()), *(data.eval_dataset or ())):
        try:
            entry = find_dataset(name, data.dataset_dir)
            if not (data.tokenized_path and is_tokenized(Path(data.tokenized_path))):
                check_sources(entry.sources)
        except UsageError as error:
            if str(error) not in faults:  # a dataset_dir that is not there is so for all names
                faults.append(str(error))
            continue
        entries[name] = entry
        kind = entry.layout.kind
        if kind not in KINDS.get(stage, (kind,)):
            words = {
                "text": "plain text",
                "chat": "chat rows",
                "preference": "preference pairs",
                "feedback": "judged answers",
            }
            wanted = " or ".join(words[k] for k in KINDS[stage][:1])
            faults.append(
                f'dataset "{name}" holds {words[kind]}, and stage {stage} trains on {wanted}\n'
                f"Set stage: {STAGES_FOR[kind]}, or choose another dataset."
            )
        if data.streaming:
            _collect(faults, partial(check_streamable, entry))
    if data.streaming and data.tokenized_path and not is_tokenized(Path(data.tokenized_path)):
        faults.append('"tokenized_path": streamed rows are not kept, so they cannot be saved there (as LLaMA-Factory)')
    return entries


def check_swappable(folder: Path) -> None:
    """Raise ``UsageError`` where ``folder`` cannot be exchanged whole: a file, no permission, or the folder one is in."""
    check_writable(folder)
    if Path.cwd().is_relative_to(folder.resolve()):
        raise UsageError(
            "this is the folder you are in (or above it), and it would be replaced as a whole",
            where=str(folder),
            mend="Name a folder for the model alone.",
        )


def check_writable(folder: Path) -> None:
    """Raise ``UsageError`` where ``folder`` cannot be made or written to."""
    parent = folder
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise UsageError("is a file, and a folder is needed", where=str(parent))
    if not os.access(parent, os.W_OK):
        raise UsageError("no permission to write here", where=str(parent))
