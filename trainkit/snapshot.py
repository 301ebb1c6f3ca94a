"""Everything a run is after a step, copied to the CPU: what a checkpoint is written from, while training goes on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from registry.atomic import fsync_folder, temporary_name
from registry.errors import StoppedError, reason_of
from trainkit.checkpoint import FORMAT_VERSION, MANIFEST, OPTIMIZER, RANDOM, STATE
from trainkit.layout import ADAPTER, VALUE_HEAD, WHOLE_MODEL, Layout
from trainkit.tensor_file import Written, nothing_to_check, write_bytes, write_tensors

Check = Callable[[], None]


@dataclass(frozen=True)
class Snapshot:
    """A run after ``step`` optimizer steps; nothing in it changes when training goes on.

    ``weights`` are the tensors of each .safetensors file of the model and ``texts`` the other files, both by name.
    ``optimizer`` holds "parameter|key" (None: a checkpoint that cannot be resumed), ``random_state`` "rank|device".
    ``trained`` are the trained parameters' names and shapes, by which a checkpoint of another model is told.
    """

    step: int
    weights: Mapping[str, Mapping[str, torch.Tensor]]
    texts: Mapping[str, bytes]
    state: bytes
    optimizer: Mapping[str, torch.Tensor] | None = None
    random_state: Mapping[str, torch.Tensor] = field(default_factory=dict)
    trained: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"checkpoint-{self.step}"

    @property
    def num_bytes(self) -> int:
        """The room that it takes on a disk, within a few kilobytes of heads and manifest."""
        tensors = (t for group in self.tensors().values() for t in group.values())
        return sum(t.numel() * t.element_size() for t in tensors) + sum(map(len, self.texts.values())) + len(self.state)

    def tensors(self) -> dict[str, Mapping[str, torch.Tensor]]:
        """What a resumable checkpoint holds besides the model, and the model."""
        rest = {} if self.optimizer is None else {OPTIMIZER: self.optimizer, RANDOM: self.random_state}
        return {**self.weights, **rest}


def take_snapshot(
    layout: Layout,
    step: int,
    weights: dict[str, torch.Tensor],
    *,
    state: Mapping[str, Any],
    optimizer: dict[str, torch.Tensor] | None = None,
    random_state: Mapping[str, torch.Tensor] | None = None,
    trained: Mapping[str, Sequence[int]] | None = None,
) -> Snapshot:
    """Freeze a run: ``weights`` and ``optimizer`` as a backend gives them, ``state`` the content of trainer_state.json.

    Tensors that training may still write to (those of a model or an optimizer on the CPU) are copied; both dicts are
    emptied while that is done, so that the copy is all that stays in memory.
    """
    files, texts = layout.files(weights)
    weights.clear()
    lives_here = any(p.device.type == "cpu" for p in layout.model.parameters())
    return Snapshot(
        step=step,
        weights={name: _owned(tensors, copy=lives_here) for name, tensors in files.items()},
        texts=texts,
        state=json.dumps(dict(state), indent=2).encode(),
        optimizer=None if optimizer is None else _owned(optimizer, copy=lives_here),
        random_state=dict(random_state or {}),
        trained={name: list(shape) for name, shape in (trained or {}).items()},
    )


def _owned(tensors: dict[str, torch.Tensor], *, copy: bool) -> dict[str, torch.Tensor]:
    owned = {}
    for name in list(tensors):
        value = tensors.pop(name).detach()
        # pinned memory is an offloaded optimizer's own
        owned[name] = value.clone() if copy or (value.device.type == "cpu" and value.is_pinned()) else value.cpu()
    return owned


def write_snapshot(folder: Path, snapshot: Snapshot, *, check: Check = nothing_to_check) -> None:
    """Fill an empty ``folder``: every file on the disk with its size and SHA-256 in the manifest, which comes last.

    Raises ``OSError`` as the system gives it, and what ``check`` raises.
    """
    written = dict(_write_model(folder, snapshot, check))
    for name, tensors in snapshot.tensors().items():
        if name not in written:
            written[name] = write_tensors(folder / name, tensors, check=check)
    written[STATE] = write_bytes(folder / STATE, snapshot.state, check=check)
    manifest = {
        "format_version": FORMAT_VERSION,
        "step": snapshot.step,
        "trained": dict(snapshot.trained),
        "files": {name: {"bytes": w.num_bytes, "sha256": w.sha256} for name, w in sorted(written.items())},
    }
    write_bytes(folder / MANIFEST, json.dumps(manifest, indent=2).encode(), check=check)


def _write_model(folder: Path, snapshot: Snapshot, check: Check) -> Iterator[tuple[str, Written]]:
    """Weights, configs and tokenizer, file by file."""
    for name, tensors in snapshot.weights.items():
        yield name, write_tensors(folder / name, tensors, check=check)
    for name, text in snapshot.texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        yield name, write_bytes(folder / name, text, check=check)


def publish_weights(folder: Path, snapshot: Snapshot) -> None:
    """The final model and tokenizer into the output folder, beside what is there: each file whole or not at all.

    Raises ``StoppedError`` where the disk does not take them; what was there before is intact.
    """
    staged = temporary_name(folder / "weights")
    try:
        staged.mkdir()
        written = [name for name, _ in _write_model(staged, snapshot, nothing_to_check)]
        for name in written:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staged / name, folder / name)
        fsync_folder(folder)
    except OSError as error:
        raise StoppedError(
            f"the model could not be saved: {reason_of(error)}",
            where=str(folder),
            mend="Mend that and run the same command again: it goes on from the last whole checkpoint.",
        ) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    # An earlier run's adapter, shards or whole model would be loaded over this one, or in its place.
    for stale in (p for pattern in (*WHOLE_MODEL, *ADAPTER, VALUE_HEAD) for p in folder.glob(pattern)):
        if stale.name not in written:
            stale.unlink()
