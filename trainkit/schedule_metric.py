"""Learning rates that go by what evaluations find, in transformers' and torch's arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


class _ByMetric:
    """What both have: a rate that starts at ``peak``, the best metric so far, and counts of evaluations."""

    needs_metric = True
    KEPT: tuple[str, ...] = ("rate", "best", "bad", "cooling")

    def __init__(
        self, peak: float, *, mode: str, factor: float, patience: int, threshold: float, threshold_mode: str,
        cooldown: int, min_lr: float, eps: float,
    ) -> None:  # fmt: skip
        self.peak, self.rate = peak, peak
        self.mode, self.threshold, self.threshold_mode = mode, threshold, threshold_mode
        self.factor, self.patience, self.cooldown, self.min_lr, self.eps = factor, patience, cooldown, min_lr, eps
        self.best = self.worst = math.inf if mode == "min" else -math.inf
        self.bad = 0
        self.cooling = 0

    def lr(self, step: int) -> float:
        """The rate that the last evaluation left, whatever the step."""
        return self.rate

    def state(self) -> dict[str, Any]:
        kept = {name: getattr(self, name) for name in self.KEPT}
        return {**kept, "best": None if math.isinf(self.best) else self.best}  # JSON knows no infinity

    def load_state(self, state: Mapping[str, Any]) -> None:
        for name in self.KEPT:
            setattr(self, name, state[name])
        if state["best"] is None:
            self.best = self.worst

    def _is_better(self, metric: float) -> bool:
        sign = -1 if self.mode == "min" else 1
        if self.threshold_mode == "rel":
            bar = self.best * (1 + sign * self.threshold)
        else:
            bar = self.best + sign * self.threshold
        return metric < bar if self.mode == "min" else metric > bar


class Plateau(_ByMetric):
    """``reduce_lr_on_plateau``: the rate times ``factor`` once more than ``patience`` evaluations brought nothing better
    (``torch.optim.lr_scheduler.ReduceLROnPlateau``)."""

    def __init__(
        self, peak: float, *, mode: str = "min", factor: float = 0.1, patience: int = 10, threshold: float = 1e-4,
        threshold_mode: str = "rel", cooldown: int = 0, min_lr: float = 0.0, eps: float = 1e-8,
    ) -> None:  # fmt: skip
        super().__init__(
            peak, mode=mode, factor=factor, patience=patience, threshold=threshold, threshold_mode=threshold_mode,
            cooldown=cooldown, min_lr=min_lr, eps=eps,
        )  # fmt: skip

    def saw(self, metric: float) -> None:
        """An evaluation found ``metric``."""
        if self._is_better(metric):
            self.best, self.bad = metric, 0
        else:
            self.bad += 1
        if self.cooling > 0:
            self.cooling -= 1
            self.bad = 0
        if self.bad > self.patience:
            lower = max(self.rate * self.factor, self.min_lr)
            if self.rate - lower > self.eps:
                self.rate = lower
            self.cooling, self.bad = self.cooldown, 0


class Greedy(_ByMetric):
    """``greedy``: lower after more than ``patience`` worse evaluations, higher after as many better ones, and back to the
    peak after ``reset_start`` cuts at ``min_lr`` (GreedyLR, arXiv 2512.14527; ``transformers.optimization.GreedyLR``)."""

    KEPT = (*_ByMetric.KEPT, "good", "warming", "resets_in", "window")

    def __init__(
        self, peak: float, *, mode: str = "min", factor: float = 0.95, patience: int = 10, threshold: float = 1e-6,
        threshold_mode: str = "abs", cooldown: int = 0, warmup: int = 0, min_lr: float = 1e-3, max_lr: float = 1.0,
        eps: float = 1e-8, smooth: bool = False, window_size: int = 50, reset_start: int = 500,
    ) -> None:  # fmt: skip
        super().__init__(
            peak, mode=mode, factor=factor, patience=patience, threshold=threshold, threshold_mode=threshold_mode,
            cooldown=cooldown, min_lr=min_lr, eps=eps,
        )  # fmt: skip
        self.warmup, self.max_lr, self.reset_start = warmup, max_lr, reset_start
        self.smooth, self.window_size = smooth, window_size
        self.good = 0
        self.warming = 0
        self.resets_in = reset_start
        self.window: list[float] = []

    def saw(self, metric: float) -> None:
        """An evaluation found ``metric``; with ``smooth`` it is the mean of the last ``window_size`` that counts."""
        if self.smooth:
            self.window = [*self.window, metric][-self.window_size :]
            metric = sum(self.window) / len(self.window)
        if self.cooling > 0 or self.warming > 0:
            self.cooling, self.warming = (self.cooling - 1, self.warming) if self.cooling else (0, self.warming - 1)
            self.bad = self.good = 0
            return
        if self._is_better(metric):
            self.best, self.bad, self.good = metric, 0, self.good + 1
        else:
            self.bad, self.good = self.bad + 1, 0
        if self.good > self.patience:
            self._raise()
            self.warming, self.good = self.warmup, 0
        elif self.bad > self.patience:
            self._lower()
            self.cooling, self.bad = self.cooldown, 0

    def _raise(self) -> None:
        higher = min(self.rate / self.factor, self.max_lr)
        if higher - self.rate > self.eps:
            self.rate = higher
        self.resets_in = self.reset_start

    def _lower(self) -> None:
        lower = max(self.rate * self.factor, self.min_lr)
        if self.rate - lower > self.eps:
            self.rate = lower
        if self.rate > self.min_lr:
            return
        self.resets_in -= 1
        if self.resets_in <= 0:
            self.rate, self.best, self.resets_in = self.peak, self.worst, self.reset_start
            self.good = self.warming = 0
            self.window = []
