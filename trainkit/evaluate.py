"""Held-out loss: the stage's own loss over examples that are not trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

from trainkit.backends.single import Single
from trainkit.data.collate import Batch
from trainkit.logprobs import token_logprobs
from trainkit.stages import Loss


@torch.no_grad()
def mean_loss(
    model: nn.Module,
    batches: Iterable[Batch],
    reference_of: Callable[[Batch], torch.Tensor | None],
    loss: Loss,
    backend: Single,
    *,
    head_only: bool,
    perplexity: bool,
    by_batch: bool = False,
    name: str = "",
) -> dict[str, float]:
    """``eval_loss`` (the sum over everything divided by its whole weight) and the loss's metrics, each as
    ``eval_<metric>``; ``perplexity`` adds its exponential, which has a meaning for pt only. The ``name`` of a set that is
    one of several stands before each number: ``eval_<name>_loss``, ``eval_<name>_perplexity``.

    ``by_batch`` takes the mean of the batches' means, each counted by its examples, as the Trainer does
    (``compat: strict``): it changes with the batch size where examples differ in length.
    """
    was_training = model.training
    model.eval()
    total, weight = 0.0, 0.0
    sums: dict[str, float] = {}
    for batch in batches:
        batch = batch.to(backend.device)
        with backend.autocast():
            logprobs = token_logprobs(model, batch, head_only=head_only)
        loss_sum, metrics = loss(logprobs, batch, reference_of(batch))
        count = len(batch.indices) if by_batch else batch.weight
        total += float(loss_sum) * count / (batch.weight or 1)
        weight += count
        for of, value in metrics.items():
            sums[of] = sums.get(of, 0.0) + float(value) * count / (batch.weight or 1)
    model.train(was_training)
    mean = total / (weight or 1)
    of_set = f"eval_{name}_" if name else "eval_"
    found = {f"{of_set}loss": mean, **{f"{of_set}{of}": value / (weight or 1) for of, value in sums.items()}}
    return found | ({f"{of_set if name else ''}perplexity": math.exp(min(mean, 700.0))} if perplexity else {})
