"""Checkpoints: everything needed to go on, written whole or not at all, and trusted only when whole."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from registry.atomic import atomic_folder, fsync_path, temporary_name
from registry.digest import sha256_of
from registry.errors import StoppedError, UsageError

log = logging.getLogger("tunekit")

FORMAT_VERSION = 1
MANIFEST = "checkpoint.json"
OPTIMIZER = "optimizer.safetensors"  # not torch.save: reading a checkpoint must never run code
RANDOM = "random_state.safetensors"
STATE = "trainer_state.json"
WEIGHT_FILES = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "model*.safetensors",
    "model.safetensors.index.json",
)
WHOLE_MODEL = (*WEIGHT_FILES[2:], "config.json", "generation_config.json")
NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint on disk: after ``step`` optimizer steps."""

    path: Path
    step: int
    state: dict[str, Any]

    @property
    def resumable(self) -> bool:
        """Whether it holds the optimizer (not so with ``save_only_model``)."""
        return (self.path / OPTIMIZER).is_file()


def save_weights(folder: Path, model: nn.Module, tokenizer: Any, *, max_shard_size: str = "5GB") -> None:
    """The model (or adapter) and its tokenizer, in Hugging Face layout. Raises ``StoppedError`` on a full disk."""
    options: dict[str, Any] = (
        {"save_embedding_layers": False} if hasattr(model, "peft_config") else {"max_shard_size": max_shard_size}
    )
    _or_full_disk(folder, lambda: model.save_pretrained(folder, **options))  # type: ignore[operator]
    _or_full_disk(folder, lambda: tokenizer.save_pretrained(folder))
    for path in folder.glob("*.safetensors"):  # written for the owner alone, whatever the umask says
        path.chmod(path.stat().st_mode | (folder.stat().st_mode & 0o044))


def publish_weights(folder: Path, model: nn.Module, tokenizer: Any) -> None:
    """The final weights and tokenizer into the output folder, beside what is there: each file whole or not at all."""
    staged = temporary_name(folder / "weights")
    staged.mkdir()
    try:
        save_weights(staged, model, tokenizer)
        written = sorted(p.name for p in staged.iterdir() if p.is_file())
        for name in written:
            fsync_path(staged / name)
            os.replace(staged / name, folder / name)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    # An earlier run's adapter, shards or whole model would be loaded over this one, or in its place.
    patterns = WHOLE_MODEL if hasattr(model, "peft_config") else WEIGHT_FILES
    for stale in (p for pattern in patterns for p in folder.glob(pattern) if p.name not in written):
        stale.unlink()


def save_checkpoint(
    root: Path,
    step: int,
    model: nn.Module,
    tokenizer: Any,
    state: Mapping[str, Any],
    *,
    optimizer: torch.optim.Optimizer | None,
    trainable: Sequence[tuple[str, nn.Parameter]],
    random_state: Mapping[str, torch.Tensor],
) -> Path:
    """Write ``root/checkpoint-<step>``: weights, tokenizer, optimizer by parameter name, random state, and a manifest
    with the size and SHA-256 of every file. ``optimizer`` None leaves a checkpoint that cannot be resumed.

    Raises ``StoppedError`` on a full disk; what was there before is intact.
    """
    target = root / f"checkpoint-{step}"
    with atomic_folder(target) as folder:
        save_weights(folder, model, tokenizer)
        if optimizer is not None:
            _or_full_disk(folder, lambda: save_file(_optimizer_tensors(optimizer, trainable), folder / OPTIMIZER))
            _or_full_disk(folder, lambda: save_file(dict(random_state), folder / RANDOM))
        (folder / STATE).write_text(json.dumps(dict(state), indent=2), encoding="utf-8")
        files = {
            str(p.relative_to(folder)): {"bytes": p.stat().st_size, "sha256": sha256_of(p)}
            for p in sorted(folder.rglob("*"))
            if p.is_file()
        }
        manifest = {"format_version": FORMAT_VERSION, "step": step, "files": files}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    return target


def _or_full_disk(folder: Path, write) -> None:  # type: ignore[no-untyped-def]
    try:
        write()
    except Exception as error:
        # safetensors wraps the system's error in its own kind, with the number only in the text
        if "No space left" in str(error) or "os error 28" in str(error) or "code: 28" in str(error):
            checkpoint = folder.name.startswith(".checkpoint-")
            raise StoppedError(
                f"the disk is full while saving {'a checkpoint' if checkpoint else 'the model'}",
                where=str(folder.parent),
                mend="Free some space and run the same command again"
                + (
                    ": it goes on from the last whole checkpoint."
                    if checkpoint
                    else "; what was there before is intact."
                ),
            ) from error
        raise


def _optimizer_tensors(
    optimizer: torch.optim.Optimizer, trainable: Sequence[tuple[str, nn.Parameter]]
) -> dict[str, torch.Tensor]:
    return {
        f"{name}|{key}": value.detach().cpu().contiguous()
        for name, parameter in trainable
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(
    checkpoint: Checkpoint, optimizer: torch.optim.Optimizer, trainable: Sequence[tuple[str, nn.Parameter]]
) -> None:
    """Put the saved moments back, by parameter name. Raises ``UsageError`` where the names do not match."""
    tensors = load_file(checkpoint.path / OPTIMIZER)
    for name, parameter in trainable:
        state = {key.rpartition("|")[2]: value for key, value in tensors.items() if key.rpartition("|")[0] == name}
        if not state:
            raise UsageError(f'the optimizer state has nothing for "{name}"', where=str(checkpoint.path))
        optimizer.state[parameter] = {
            k: v if k == "step" and v.ndim == 0 and parameter.device.type == "cpu" else v.to(parameter.device)
            for k, v in state.items()
        }


def load_random_state(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """The random generators' states, as ``Single.random_state`` gave them."""
    return load_file(checkpoint.path / RANDOM)


def open_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint whose every file is there with the right size and hash. Raises ``UsageError`` for any other."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"no checkpoint of ours: it has no {MANIFEST}", where=str(path)) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        manifest = None
    if not isinstance(manifest, dict):
        raise UsageError(f"{MANIFEST} is damaged", where=str(path))
    if manifest.get("format_version") != FORMAT_VERSION:
        raise UsageError(
            f"checkpoint format {manifest.get('format_version')} is not read by this version", where=str(path)
        )
    files = manifest.get("files")
    if not isinstance(files, dict) or not isinstance(manifest.get("step"), int) or STATE not in files:
        raise UsageError(f"{MANIFEST} is damaged", where=str(path))
    for name, facts in files.items():
        file = path / name
        if not file.is_file() or file.stat().st_size != facts["bytes"] or sha256_of(file) != facts["sha256"]:
            raise UsageError(f'"{name}" is missing or damaged', where=str(path))
    return Checkpoint(path, manifest["step"], json.loads((path / STATE).read_text(encoding="utf-8")))


def list_checkpoints(root: Path) -> list[Path]:
    """Checkpoint folders by step, newest first, whole or not."""
    found = (
        [(int(m.group(1)), p) for p in root.iterdir() if p.is_dir() and (m := NAME.fullmatch(p.name))]
        if root.is_dir()
        else []
    )
    return [path for _, path in sorted(found, reverse=True)]


def step_of(path: Path) -> int:
    """The step in a checkpoint folder's name."""
    return int(path.name.rpartition("-")[2])


def is_whole(path: Path) -> bool:
    """Whether ``open_checkpoint`` takes it."""
    try:
        open_checkpoint(path)
    except UsageError:
        return False
    return True


def newest_checkpoint(root: Path) -> Checkpoint | None:
    """The newest whole checkpoint that can be resumed; broken ones are passed over and reported."""
    for path in list_checkpoints(root):
        try:
            checkpoint = open_checkpoint(path)
        except UsageError as error:
            log.warning("passed over: %s", error)
            continue
        if checkpoint.resumable:
            return checkpoint
        log.warning("passed over: %s holds no optimizer state (save_only_model)", path)
    return None


def prune(root: Path, keep: int | None) -> None:
    """Remove the oldest checkpoints beyond ``keep``; None, 0 and less keep all, as the Trainer does."""
    for path in list_checkpoints(root)[keep:] if keep and keep > 0 else []:
        shutil.rmtree(path, ignore_errors=True)
