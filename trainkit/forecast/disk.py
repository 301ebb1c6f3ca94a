"""The room that a run's checkpoints will take, against what the disk has."""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainkit.config import LoopConfig


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes. ``checkpoints`` are kept at once, with one more while the next is written, and the final model beside them."""

    checkpoint: int
    checkpoints: int
    model: int
    needed: int
    free: int | None

    @property
    def fits(self) -> bool:
        return self.free is None or self.needed <= self.free

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "fits": self.fits}


def forecast_disk(
    loop: LoopConfig, folder: str | None, *, model: int, optimizer: int, steps_per_epoch: int, total_steps: int
) -> Disk:
    """The room for a run of ``total_steps`` whose saved weights take ``model`` bytes and whose optimizer ``optimizer``."""
    each = model + (0 if loop.save_only_model else optimizer)
    count = num_checkpoints(loop, steps_per_epoch, total_steps)
    limit = loop.save_total_limit
    kept = min(count, limit) if limit and limit > 0 else count
    written = min(kept + 1, count)  # the oldest goes only when the newest is whole
    return Disk(each, kept, model, each * written + model, free_bytes(folder))


def num_checkpoints(loop: LoopConfig, steps_per_epoch: int, total_steps: int) -> int:
    """How often a run saves; its last step counts."""
    if loop.save_strategy == "no" or total_steps <= 0:
        return 0
    if loop.save_strategy == "epoch":
        every = steps_per_epoch
    else:
        every = math.ceil(loop.save_steps * total_steps) if loop.save_steps < 1 else int(loop.save_steps)
    return -(-total_steps // max(every, 1))


def free_bytes(folder: str | None) -> int | None:
    """What the file system of ``folder`` (or of the nearest folder above it that is there) has free; None without one."""
    if not folder:
        return None
    path = Path(folder).absolute()
    there = next((p for p in (path, *path.parents) if p.is_dir()), None)
    try:
        return None if there is None else shutil.disk_usage(there).free
    except OSError:
        return None
