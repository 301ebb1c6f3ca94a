"""The reference's log-probabilities for preference losses: computed once, before the first step, and kept by content."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from registry.atomic import atomic_file
from registry.encoded.spec import cache_root
from trainkit.backends.base import Backend
from trainkit.data.collate import Batch

log = logging.getLogger("tunekit")

FILE = "reference.safetensors"
KEPT = "reference"  # folder in the cache: FILE for each content


@torch.no_grad()
def reference_logprobs(
    module: nn.Module, batches: Iterable[Batch], num_examples: int, backend: Backend, *, adapter_of: Any = None
) -> torch.Tensor:
    """[2, num_examples]: what the stage measures of every example (log-probability of the chosen and the rejected answer,
    or of the judged answer and its KL row) under ``module``'s model as it is now. All ranks, with as many batches each.

    Before the first step the policy is its own reference, so one pass replaces a second model in memory and a second
    forward in every step. Examples that are in no batch are NaN. ``adapter_of`` is a model with adapters that are
    switched off meanwhile: then the base below them is measured.
    """
    found = torch.zeros(
        (3, num_examples), dtype=torch.float64, device=backend.device
    )  # two sums, and how often measured
    was_training = module.training
    module.eval()
    with adapter_of.disable_adapter() if adapter_of is not None else nullcontext():
        for batch in batches:
            values = module(batch.to(backend.device), measure=True).double()
            if not batch.idle:
                columns = list(batch.indices)
                found[:2, columns] = values
                found[2, columns] = 1
    module.train(was_training)
    found = backend.sum(found)
    return (found[:2] / found[2]).float().cpu()  # 0 / 0: not measured


def save_reference(path: Path, logprobs: torch.Tensor, digest: str) -> None:
    """Keep them with the ``digest`` of data and base they belong to. Beside the checkpoints: a resumed run must not measure
    against its own later self. In the cache: another run on the same data and model need not measure again."""
    from safetensors.torch import save

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as handle:
        handle.write(save({"logprobs": logprobs}, {"data": digest}))


def load_reference(path: Path, digest: str) -> torch.Tensor | None:
    """What was saved for ``digest``; None where there is nothing that can be read and belongs to its data."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as saved:
            return saved.get_tensor("logprobs") if (saved.metadata() or {}).get("data") == digest else None
    except SafetensorError as error:
        log.warning("%s is damaged: %s", path, error)
        return None


def kept_path(cache: str | None, digest: str) -> Path:
    """Where the cache keeps the reference of this content."""
    root = Path(cache) if cache else cache_root()
    return root / KEPT / f"{digest}.safetensors"


def pick(logprobs: torch.Tensor | None, indices: Sequence[int], device: torch.device) -> torch.Tensor | None:
    """The columns of one batch."""
    return None if logprobs is None else logprobs[:, list(indices)].to(device, non_blocking=True)
