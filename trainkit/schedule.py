"""The learning rate at a step: plain numbers, the shapes that transformers' schedulers have."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

# (steps after warm-up, steps from warm-up to the end, settings) -> share of the peak, 0 to 1
Shape = Callable[[int, int, Mapping[str, Any]], float]


def _linear(done: int, span: int, settings: Mapping[str, Any]) -> float:
    return max(0.0, (span - done) / max(1, span))


def _cosine(done: int, span: int, settings: Mapping[str, Any]) -> float:
    cycles = settings.get("num_cycles", 0.5)
    return max(0.0, 0.5 * (1 + math.cos(math.pi * cycles * 2 * done / max(1, span))))


def _cosine_with_min_lr(done: int, span: int, settings: Mapping[str, Any]) -> float:
    floor = settings.get("min_lr_rate", 0.0)
    return floor + (1 - floor) * _cosine(done, span, settings)


def _polynomial(done: int, span: int, settings: Mapping[str, Any]) -> float:
    floor = settings.get("lr_end_rate", 0.0)
    return floor if done > span else floor + (1 - floor) * (1 - done / max(1, span)) ** settings.get("power", 1.0)


SHAPES: dict[str, Shape] = {
    "constant": lambda done, span, settings: 1.0,
    "constant_with_warmup": lambda done, span, settings: 1.0,
    "linear": _linear,
    "cosine": _cosine,
    "cosine_with_min_lr": _cosine_with_min_lr,
    "polynomial": _polynomial,
}


def warmup_length(warmup_steps: float, warmup_ratio: float | None, total_steps: int) -> int:
    """Steps that warm up: ``warmup_steps``, a share where it is below 1; else ``warmup_ratio`` of all, rounded up."""
    if warmup_steps >= 1:
        return int(warmup_steps)
    return math.ceil((warmup_steps or warmup_ratio or 0.0) * total_steps)


def lr_at(
    step: int, *, peak: float, shape: str, total_steps: int, warmup: int, settings: Mapping[str, Any] | None = None
) -> float:
    """The learning rate of optimizer step ``step``, counted from 0: from 0 up to ``peak`` over ``warmup`` steps, then
    down by ``shape``. ``constant`` knows no warm-up; ``min_lr`` and ``lr_end`` in ``settings`` are absolute rates."""
    settings = dict(settings or {})
    if peak > 0:
        settings.setdefault("min_lr_rate", settings.get("min_lr", 0.0) / peak)
        settings.setdefault("lr_end_rate", settings.get("lr_end", 1e-7) / peak)
    if shape == "inverse_sqrt":
        scale = settings.get("timescale", warmup or 10_000)
        return peak * (step / max(1, warmup) if step < warmup else 1.0 / math.sqrt((step + scale - warmup) / scale))
    if shape != "constant" and step < warmup:
        return peak * step / max(1, warmup)
    return peak * SHAPES[shape](step - warmup, total_steps - warmup, settings)
