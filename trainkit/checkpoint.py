"""Checkpoints on disk: found, checked to the last byte, read and pruned; only a whole one is trusted."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.atomic import temporary_name
from registry.digest import sha256_of
from registry.errors import UsageError

if TYPE_CHECKING:
    import torch

log = logging.getLogger("tunekit")

FORMAT_VERSION = 2  # 1: one process, and parameters named as in the model instead of in the objective around it
READ_VERSIONS = (1, 2)
MANIFEST = "checkpoint.json"
OPTIMIZER = "optimizer.safetensors"  # not torch.save: reading a checkpoint must never run code
RANDOM = "random_state.safetensors"
STATE = "trainer_state.json"
NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint on disk: after ``step`` optimizer steps. ``trained``: names and shapes of what was trained."""

    path: Path
    step: int
    state: dict[str, Any]
    trained: dict[str, list[int]] = field(default_factory=dict)
    version: int = FORMAT_VERSION

    @property
    def resumable(self) -> bool:
        """Whether it holds the optimizer (not so with ``save_only_model``)."""
        return (self.path / OPTIMIZER).is_file()


def load_optimizer_tensors(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """The optimizer's tensors by "parameter|key", on the CPU, independent of how many processes wrote them."""
    from safetensors.torch import load_file

    tensors = load_file(checkpoint.path / OPTIMIZER)
    return {f"model.{name}": value for name, value in tensors.items()} if checkpoint.version == 1 else tensors


def load_random_state(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """The random generators' states of every rank: "0|cpu", "0|cuda", "1|cpu", …"""
    from safetensors.torch import load_file

    state = load_file(checkpoint.path / RANDOM)
    return {f"0|{name}": value for name, value in state.items()} if checkpoint.version == 1 else state


def check_trained(checkpoint: Checkpoint, trained: Mapping[str, Sequence[int]]) -> None:
    """Raise ``UsageError`` where a checkpoint's parameters are not this run's, with the first tensor that differs.

    ``trained`` are the names and whole shapes of the trained parameters as the model was built now.
    """
    saved = checkpoint.trained
    if not saved:
        return
    where = str(checkpoint.path)
    mend = "Resume with the model, method and targets that it was written with, or drop resume_from_checkpoint."
    for name, shape in trained.items():
        if name not in saved:
            what = f'it is of another model: it has no parameter "{name}" ({len(saved)} there, {len(trained)} here)'
            raise UsageError(what, where=where, mend=mend)
        if list(shape) != saved[name]:
            what = f'it is of another model: "{name}" is {saved[name]} there and {list(shape)} here'
            raise UsageError(what, where=where, mend=mend)
    if extra := next((name for name in saved if name not in trained), None):
        raise UsageError(f'it is of another model: "{extra}" is trained there and not here', where=where, mend=mend)


def open_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint whose every file is there with the right size and hash. Raises ``UsageError`` for any other."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"no checkpoint of ours: it has no {MANIFEST}", where=str(path)) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        manifest = None
    except OSError as error:
        raise UsageError(f"{MANIFEST} cannot be read: {error.strerror or error}", where=str(path)) from None
    if not isinstance(manifest, dict):
        raise UsageError(f"{MANIFEST} is damaged", where=str(path))
    version = manifest.get("format_version")
    if version not in READ_VERSIONS:
        raise UsageError(f"checkpoint format {version} is not read by this version", where=str(path))
    files, trained = manifest.get("files"), manifest.get("trained", {})
    sound = isinstance(manifest.get("step"), int) and isinstance(trained, dict)
    if not isinstance(files, dict) or STATE not in files or not (sound and all(map(_is_fact, files.values()))):
        raise UsageError(f"{MANIFEST} is damaged", where=str(path))
    for name, facts in files.items():
        if fault := _fault(path / name, facts):
            raise UsageError(f'"{name}" {fault}', where=str(path))
    state = json.loads((path / STATE).read_text(encoding="utf-8"))
    return Checkpoint(path, manifest["step"], state, trained, version)


def _is_fact(facts: object) -> bool:
    return isinstance(facts, dict) and {"bytes", "sha256"} <= facts.keys()


def _fault(file: Path, facts: Mapping[str, Any]) -> str | None:
    """What is wrong with one file; sizes first, since a hash takes its time."""
    try:
        num_bytes = file.stat().st_size
        if num_bytes != facts["bytes"]:
            return f"is missing or damaged: it has {num_bytes} bytes of {facts['bytes']}"
        return None if sha256_of(file) == facts["sha256"] else "is missing or damaged: its SHA-256 is another"
    except (FileNotFoundError, NotADirectoryError):
        return "is missing or damaged: there is no such file"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


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


def prune(root: Path, keep: int | None, *, protected: Collection[int] = ()) -> None:
    """Remove the oldest checkpoints beyond ``keep``; None, 0 and less keep all, as the Trainer does.

    The newest one and those of the ``protected`` steps stay, and count among the kept (as the Trainer's best one).
    A folder is renamed before it is emptied: a kill in between leaves no torn checkpoint.
    """
    if not keep or keep < 1:
        return
    found = list_checkpoints(root)
    held = {path for path in found[1:] if step_of(path) in protected} | set(found[:1])
    for path in found[1:]:
        if path in held:
            continue
        if len(held) < keep:
            held.add(path)
            continue
        remove(path)


def remove(path: Path) -> None:
    """Remove a checkpoint's folder at once, as far as any reader can see; what the system will not remove is told."""
    aside = temporary_name(path)
    try:
        os.replace(path, aside)
        shutil.rmtree(aside)
    except OSError as error:
        log.warning("%s could not be removed: %s", path, error.strerror or error)
