"""How long a run takes: its operations, divided by what this device does of its kind a second. An estimate."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

MEASURE_S = 0.3
# Of a plain matrix product's rate, what a whole step reaches: the rest goes into norms, activations, the optimizer.
SHARE = {"cpu": 0.55, "cuda": 0.5}


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds of a step and of all steps; ``rate`` is the measured FLOP/s of a matrix product, ``share`` what of it a step
    is taken to reach."""

    flops_per_step: float
    rate: float
    share: float
    seconds_per_step: float
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def forecast_time(flops_per_step: float, total_steps: int, *, device: str, bf16: bool, width: int, rows: int) -> Time:
    """The time of ``total_steps`` steps on this machine's ``device``: ``rows`` tokens at a time in layers of ``width``."""
    rate, share = measured_rate(device, bf16=bf16, width=width, rows=rows), SHARE[device]
    each = flops_per_step / (rate * share)
    return Time(flops_per_step, rate, share, each, each * total_steps)


def measured_rate(device: str, *, bf16: bool, width: int, rows: int, seconds: float = MEASURE_S) -> float:
    """FLOP/s of a product [rows, width] x [width, 4 width], the median over about ``seconds``."""
    import statistics

    import torch

    dtype = torch.bfloat16 if bf16 else torch.float32
    left = torch.ones(max(rows, 1), width, dtype=dtype, device=device)
    right = torch.ones(width, 4 * width, dtype=dtype, device=device)
    flops = 2 * left.shape[0] * width * 4 * width

    def once() -> float:
        began = time.perf_counter()
        torch.mm(left, right)
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    once()  # the first one loads and warms the library
    until, spans = time.perf_counter() + seconds, [once()]
    while time.perf_counter() < until:
        spans.append(once())
    return flops / statistics.median(spans)
