"""The reference's log-probabilities for preference losses: computed once, before the first step, from the policy itself."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from registry.atomic import atomic_file
from trainkit.backends.single import Single
from trainkit.data.collate import Batch
from trainkit.logprobs import token_logprobs

log = logging.getLogger("tunekit")

FILE = "reference.safetensors"


@torch.no_grad()
def reference_logprobs(
    model: nn.Module,
    batches: Iterable[Batch],
    num_examples: int,
    backend: Single,
    *,
    head_only: bool,
    adapter_off: bool,
) -> torch.Tensor:
    """[2, num_examples]: log-probability of every chosen and rejected answer under the model as it is now.

    Before the first step the policy is its own reference, so one pass replaces a second model in memory and a second
    forward in every step. ``adapter_off`` asks the base below the adapters instead (``compat: strict``, where a
    continued adapter is measured against the bare base).
    """
    found = torch.full((2, num_examples), torch.nan)  # what is never trained on stays unmeasured
    was_training = model.training
    model.eval()
    with model.disable_adapter() if adapter_off else nullcontext():  # type: ignore[operator]
        for batch in batches:
            with backend.autocast():
                sums = token_logprobs(model, batch.to(backend.device), head_only=head_only).by_row()
            found[:, list(batch.indices)] = sums.reshape(2, -1).float().cpu()
    model.train(was_training)
    return found


def save_reference(folder: Path, logprobs: torch.Tensor, digest: str) -> None:
    """Keep them, with the ``digest`` of data and base they belong to, beside the checkpoints: a resumed run must not
    measure against its own later self."""
    from safetensors.torch import save

    with atomic_file(folder / FILE) as handle:
        handle.write(save({"logprobs": logprobs}, {"data": digest}))


def load_reference(folder: Path, digest: str) -> torch.Tensor | None:
    """What an earlier part of this run saved; None where there is nothing that can be read and belongs to its data."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as saved:
            return saved.get_tensor("logprobs") if (saved.metadata() or {}).get("data") == digest else None
    except SafetensorError as error:
        log.warning("%s is damaged: %s", path, error)
        return None


def pick(logprobs: torch.Tensor | None, indices: Sequence[int], device: torch.device) -> torch.Tensor | None:
    """The columns of one batch."""
    return None if logprobs is None else logprobs[:, list(indices)].to(device)
