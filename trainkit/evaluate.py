"""What a model comes to on examples that are not trained on: loss, perplexity, accuracy, rewards, and how fast."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

import torch

from trainkit.backends.base import Backend
from trainkit.data.collate import Batch

# What the metrics of a loss are called in an evaluation, where not eval_<metric>: LLaMA-Factory's names.
NAMES = {"token_accuracy": "accuracy"}


@torch.no_grad()
def mean_loss(
    backend: Backend,
    batches: Iterable[Batch],
    reference_of: Callable[[Batch], torch.Tensor | None],
    *,
    perplexity: bool,
    pairs_accuracy: bool = False,
    by_batch: bool = False,
    name: str = "",
) -> dict[str, float]:
    """``eval_loss`` (the sum over everything divided by its whole weight), the metrics of the loss, each as
    ``eval_<metric>`` (``token_accuracy`` is ``eval_accuracy``), and ``eval_runtime`` with samples and steps a second.

    ``perplexity`` adds the loss's exponential: it has a meaning where the loss is the mean of the tokens' negative
    log-likelihood. ``pairs_accuracy`` gives the share of pairs in the right order as ``eval_accuracy`` too. The ``name``
    of a set that is one of several stands before each number: ``eval_<name>_loss``, ``eval_<name>_perplexity``.

    ``by_batch`` takes the mean of the batches' means, each counted by its examples, as the Trainer does
    (``compat: strict``): it changes with the batch size where examples differ in length.

    With several ranks each has its share of the examples in ``batches``, one batch at least (an ``idle`` one counts
    nothing), and all of them get the same numbers.
    """
    objective = backend.module
    was_training = objective.training
    objective.eval()
    began = time.monotonic()
    device = backend.device
    kind = torch.float32 if device.type == "mps" else torch.float64
    sums: dict[str, torch.Tensor] = {"loss": torch.zeros(2, dtype=kind, device=device)}
    counts = torch.zeros(2, dtype=kind, device=device)  # examples, batches
    for batch in batches:
        batch = batch.to(device)
        loss, metrics = objective(batch, reference_of(batch))
        weight, num_examples = (0.0, 0) if batch.idle else (float(batch.weight), len(batch.indices))
        # what a sum over the batch is multiplied by, and what it adds to the divisor
        scale, counted = (num_examples / (weight or 1), num_examples) if by_batch else (1.0, weight)
        counts += torch.tensor([num_examples, not batch.idle], dtype=kind, device=device)
        for of, value in (("loss", loss), *metrics.items()):
            own = value.detach().to(kind)
            pair = own if own.dim() else torch.stack([own * scale, torch.tensor(counted, dtype=kind, device=device)])
            sums[of] = sums[of] + pair if of in sums else pair
    objective.train(was_training)
    names = sorted(sums)
    table = backend.sum(torch.stack([*(sums[of] for of in names), counts])).tolist()
    # a metric that nothing was counted for has no mean, and no line
    means = {of: total / divisor for of, (total, divisor) in zip(names, table, strict=False) if divisor}
    means.setdefault("loss", 0.0)
    num_examples, num_batches = table[-1]
    seconds = max(time.monotonic() - began, 1e-9)
    prefix = f"eval_{name}_" if name else "eval_"
    found = {f"{prefix}{NAMES.get(of, of)}": means[of] for of in ("loss", *(n for n in means if n != "loss"))}
    if pairs_accuracy and "rewards/accuracies" in means:
        found[f"{prefix}accuracy"] = means["rewards/accuracies"]
    if perplexity:
        found[f"{prefix if name else ''}perplexity"] = math.exp(min(means["loss"], 700.0))
    speed = {
        "runtime": round(seconds, 4),
        "samples_per_second": round(num_examples / seconds, 3),
        "steps_per_second": round(num_batches / seconds / backend.world_size, 3),
    }
    return found | {f"{prefix}{of}": value for of, value in speed.items()}
