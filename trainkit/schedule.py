"""The learning rate at a step: plain numbers, the shapes that transformers' schedulers have."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from trainkit.config import OptimConfig
from trainkit.schedule_metric import Greedy, Plateau
from trainkit.schedule_rules import METRIC_DRIVEN

# (steps after warm-up, steps from warm-up to the end, settings) -> share of the peak, 0 to 1
Shape = Callable[[int, int, Mapping[str, Any]], float]


class Schedule(Protocol):
    """The learning rate of a run. ``needs_metric`` where it goes by what evaluations find."""

    needs_metric: bool

    def lr(self, step: int) -> float:
        """The rate of optimizer step ``step``, counted from 0."""
        ...

    def saw(self, metric: float) -> None:
        """An evaluation found ``metric``."""
        ...

    def state(self) -> dict[str, Any]:
        """What goes into a checkpoint: numbers and lists of them, for JSON."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Put back what ``state`` gave."""
        ...


class ClosedForm:
    """A schedule that is a function of the step: it keeps nothing and hears nothing."""

    needs_metric = False

    def __init__(self, lr: Callable[[int], float]) -> None:
        self.lr = lr

    def saw(self, metric: float) -> None: ...

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None: ...


def make_schedule(settings: OptimConfig, total_steps: int) -> Schedule:
    """The schedule of a run of ``total_steps`` optimizer steps."""
    peak, shape, told = settings.learning_rate, settings.lr_scheduler_type, settings.lr_scheduler_kwargs or {}
    if shape in METRIC_DRIVEN:
        return Plateau(peak, **told) if shape == "reduce_lr_on_plateau" else Greedy(peak, **told)
    warmup = warmup_length(settings.warmup_steps, settings.warmup_ratio, total_steps)
    return ClosedForm(
        lambda step: lr_at(step, peak=peak, shape=shape, total_steps=total_steps, warmup=warmup, settings=told)
    )


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
    if shape in WITH_WARMUP:
        return peak * WITH_WARMUP[shape](step, warmup, total_steps, settings)
    if shape != "constant" and step < warmup:
        return peak * step / max(1, warmup)
    return peak * SHAPES[shape](step - warmup, total_steps - warmup, settings)


def _linear(done: int, span: int, settings: Mapping[str, Any]) -> float:
    return max(0.0, (span - done) / max(1, span))


def _cosine(done: int, span: int, settings: Mapping[str, Any]) -> float:
    cycles = settings.get("num_cycles", 0.5)
    return max(0.0, 0.5 * (1 + math.cos(math.pi * cycles * 2 * done / max(1, span))))


def _cosine_with_restarts(done: int, span: int, settings: Mapping[str, Any]) -> float:
    progress = done / max(1, span)
    if progress >= 1:
        return 0.0
    return max(0.0, 0.5 * (1 + math.cos(math.pi * ((settings.get("num_cycles", 1) * progress) % 1.0))))


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
    "cosine_with_restarts": _cosine_with_restarts,
    "cosine_with_min_lr": _cosine_with_min_lr,
    "polynomial": _polynomial,
}


def _inverse_sqrt(step: int, warmup: int, total: int, settings: Mapping[str, Any]) -> float:
    scale = settings.get("timescale", warmup or 10_000)
    return step / max(1, warmup) if step < warmup else 1.0 / math.sqrt((step + scale - warmup) / scale)


def _cosine_warmup_with_min_lr(step: int, warmup: int, total: int, settings: Mapping[str, Any]) -> float:
    """Counts from 1 instead of 0, and warms up from ``warmup_lr_rate`` of the peak, or from one step's share."""
    first = settings.get("warmup_lr_rate")
    if step < warmup:
        return (step + 1) / max(1, warmup) if first is None else first + (1 - first) * step / max(1, warmup - 1)
    return max(0.0, _cosine_with_min_lr(step - warmup + 1, total - warmup, settings))


def _warmup_stable_decay(step: int, warmup: int, total: int, settings: Mapping[str, Any]) -> float:
    """Up, level, down (Hu et al. 2024, MiniCPM, section 4). Where neither length is given a third of what follows the
    warm-up is level, as in LLaMA-Factory; where one is given the other takes the rest, as in transformers."""
    floor, after = settings.get("min_lr_ratio", 0.0), max(0, total - warmup)
    level, down = settings.get("num_stable_steps"), settings.get("num_decay_steps")
    if level is None:
        level = after // 3 if down is None else after - down  # below 0 the descent begins part way down
    if down is None:
        down = max(0, after - level)
    if step < warmup:
        done = step / max(1, warmup)
        curve = settings.get("warmup_type", "linear")
        share = {"linear": done, "cosine": 0.5 * (1 - math.cos(math.pi * done)), "1-sqrt": 1 - math.sqrt(1 - done)}[
            curve
        ]
    elif step < warmup + level:
        return 1.0
    elif step < warmup + level + down:
        done = (step - warmup - level) / max(1, down)
        turns = settings.get("num_cycles", 0.5) * 2
        curve = settings.get("decay_type", "cosine")
        share = {
            "linear": 1 - done,
            "cosine": 0.5 * (1 + math.cos(math.pi * turns * done)),
            "1-sqrt": 1 - math.sqrt(done),
        }[curve]
    else:
        return floor
    return max(0.0, share * (1 - floor) + floor)


# Shapes that have a warm-up of their own: (step, warm-up, steps in all, settings) -> share of the peak
WITH_WARMUP: dict[str, Callable[[int, int, int, Mapping[str, Any]], float]] = {
    "inverse_sqrt": _inverse_sqrt,
    "cosine_warmup_with_min_lr": _cosine_warmup_with_min_lr,
    "warmup_stable_decay": _warmup_stable_decay,
}
