"""Which evaluation was the best so far, and when there have been enough without a better one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from registry.errors import UsageError, known_hint
from trainkit.config import LoopConfig

LESS_IS_BETTER = ("loss", "perplexity")


class Best:
    """What evaluations have come to: part of a checkpoint, so that a resumed run judges as if it had never stopped.

    ``step`` and ``value`` are the best evaluation's (None before the first). ``patience``: evaluations in a row without
    progress after which ``stop`` is true; None for never.
    """

    def __init__(self, metric: str, *, greater: bool, patience: int | None) -> None:
        self.metric, self.greater, self.patience = metric, greater, patience
        self.step: int | None = None
        self.value: float | None = None
        self.without_progress = 0
        self._last_step = 0

    def saw(self, step: int, numbers: Mapping[str, Any]) -> bool:
        """Take in the numbers of the evaluation after ``step`` steps; whether it is the best so far. The evaluation
        before the first step (``step`` 0) is of no trained model and does not count.

        Raises ``UsageError`` where the metric is not among the numbers.
        """
        value = numbers.get(self.metric)
        if value is None:
            known = [name for name in numbers if name.startswith(("eval_", "perplexity"))]
            raise UsageError(
                f'"metric_for_best_model": evaluation finds no "{self.metric}"', mend=known_hint(self.metric, known)
            )
        if step == self._last_step:  # the evaluation at the end of a run may be that of its last step once more
            return step != 0 and step == self.step
        self._last_step = step
        better = math.isfinite(value) and (
            self.value is None or (value > self.value if self.greater else value < self.value)
        )
        if better:
            self.step, self.value, self.without_progress = step, float(value), 0
        else:
            self.without_progress += 1
        return better

    @property
    def stop(self) -> bool:
        """Whether training has had enough evaluations without progress."""
        return self.patience is not None and self.without_progress >= self.patience

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: the first three as Hugging Face's ``trainer_state.json`` names them."""
        return {
            "best_metric": self.value,
            "best_global_step": self.step,
            "best_model_checkpoint": f"checkpoint-{self.step}" if self.step else None,
            "best_by": self.metric,
            "evaluations_without_progress": self.without_progress,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` gave; where that was another metric's, or nobody's, begin anew."""
        if state.get("best_by") == self.metric:
            self.step, self.value = state["best_global_step"], state["best_metric"]
            self.without_progress = state["evaluations_without_progress"]


def watch(loop: LoopConfig) -> Best | None:
    """The judge of a run's evaluations; None where neither early stopping nor the best model is asked for."""
    if not (loop.early_stopping_steps or loop.load_best_model_at_end):
        return None
    metric = loop.metric_for_best_model or "loss"
    if not metric.startswith("eval_") and metric != "perplexity":
        metric = f"eval_{metric}"
    greater = loop.greater_is_better
    if greater is None:
        greater = not metric.endswith(LESS_IS_BETTER)
    return Best(metric, greater=greater, patience=loop.early_stopping_steps)
