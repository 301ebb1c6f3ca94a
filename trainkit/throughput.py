"""How much a run computes: the FLOPs of its batches, and what the devices could do at most."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from trainkit.data.collate import Batch
from trainkit.forecast.flops import Work, device_peak, flops_per_step
from trainkit.metrics import Peak


def peak_of(device: torch.device, world_size: int) -> Peak | None:
    """What all devices of a run do together in dense bfloat16, by their makers; None where that is not known (CPUs)."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    flops = device_peak(name)
    if flops is None:
        return None
    count = f"{world_size} × " if world_size > 1 else ""
    return Peak(flops * world_size, f"{count}{name}, {flops / 1e12:.0f} TFLOP/s bf16")


def flops_of(batches: Sequence[Batch], work: Work) -> float:
    """The FLOPs that the model needs for these micro-batches, forward and backward, padding and recomputation left out."""
    return sum(_flops(batch, work) for batch in batches if not batch.idle)


def _flops(batch: Batch, work: Work) -> float:
    others = batch.kl.num_tokens if batch.kl is not None else 0
    tokens = batch.num_tokens - others
    labelled = 0 if batch.trained is None else batch.trained.shape[1]
    return flops_per_step(
        work, num_tokens=tokens, num_labelled=labelled, context=squares(batch) / max(tokens, 1), num_forward=others
    )


def squares(batch: Batch) -> float:
    """The sum of the squared lengths of a batch's sequences; looked up on the CPU, where a batch is made."""
    if batch.attention_mask is not None:
        return float(batch.attention_mask.sum(1).double().square().sum())
    assert batch.position_ids is not None
    # 1 + 3 + 5 + … up to the length is its square; places of padding have position 0 and count 1 each
    padding = batch.input_ids.numel() - batch.num_tokens
    return float((2 * batch.position_ids + 1).sum()) - padding
