"""What each schedule may be told in ``lr_scheduler_kwargs``, and the faults of what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry.errors import did_you_mean

NUMBER, WHOLE, TRUTH = "a number of 0 or more", "a whole number of 0 or more", "true or false"
BELOW_ONE = "a number above 0 and below 1"
CURVES = ("linear", "cosine", "1-sqrt")
BY_METRIC: dict[str, Any] = {
    "mode": ("min", "max"),
    "factor": BELOW_ONE,
    "patience": WHOLE,
    "threshold": NUMBER,
    "threshold_mode": ("rel", "abs"),
    "cooldown": WHOLE,
    "min_lr": NUMBER,
    "eps": NUMBER,
}
# The names of transformers' schedules, and of their settings: a kind of number, or the words to choose from.
SCHEDULES: dict[str, dict[str, Any]] = {
    "linear": {},
    "cosine": {"num_cycles": NUMBER},
    "cosine_with_restarts": {"num_cycles": NUMBER},
    "polynomial": {"lr_end": NUMBER, "power": NUMBER},
    "constant": {},
    "constant_with_warmup": {},
    "inverse_sqrt": {"timescale": NUMBER},
    "reduce_lr_on_plateau": BY_METRIC,
    "cosine_with_min_lr": {"num_cycles": NUMBER, "min_lr": NUMBER, "min_lr_rate": NUMBER},
    "cosine_warmup_with_min_lr": {
        "num_cycles": NUMBER,
        "min_lr": NUMBER,
        "min_lr_rate": NUMBER,
        "warmup_lr_rate": NUMBER,
    },
    "warmup_stable_decay": {
        "num_stable_steps": WHOLE,
        "num_decay_steps": WHOLE,
        "warmup_type": CURVES,
        "decay_type": CURVES,
        "min_lr_ratio": NUMBER,
        "num_cycles": NUMBER,
    },
    "greedy": {
        **BY_METRIC,
        "warmup": WHOLE,
        "max_lr": NUMBER,
        "smooth": TRUTH,
        "window_size": WHOLE,
        "reset_start": WHOLE,
    },
}
# Schedules that hear of evaluations instead of counting steps.
METRIC_DRIVEN = ("reduce_lr_on_plateau", "greedy")
ABOVE_ZERO = ("timescale", "window_size")


def schedule_faults(v: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(keys at fault with spaces between, what is wrong) of the schedule that ``v`` names."""
    shape, settings = v["lr_scheduler_type"], v["lr_scheduler_kwargs"] or {}
    faults = [
        ("lr_scheduler_kwargs", fault) for name, value in settings.items() if (fault := _fault(shape, name, value))
    ]
    if "min_lr" in settings and "min_lr_rate" in settings:
        faults.append(
            (
                "lr_scheduler_kwargs",
                '"lr_scheduler_kwargs": min_lr and min_lr_rate say the same thing; give one of them',
            )
        )
    if shape in METRIC_DRIVEN and v["eval_strategy"] == "no":
        faults.append(
            (
                "lr_scheduler_type eval_strategy",
                f'"lr_scheduler_type: {shape}" goes by what evaluation finds; set eval_strategy to steps or epoch',
            )
        )
    return faults


def schedule_notes(v: Mapping[str, Any]) -> list[str]:
    """What of the warm-up a schedule does not read."""
    if v["lr_scheduler_type"] in ("constant", *METRIC_DRIVEN) and (v["warmup_steps"] or v["warmup_ratio"]):
        return [
            f"lr_scheduler_type: {v['lr_scheduler_type']} knows no warm-up: warmup_steps and warmup_ratio do nothing"
        ]
    return []


def _fault(shape: str, name: object, value: object) -> str | None:
    known = SCHEDULES.get(shape, {})
    if name not in known:
        there = f"it takes {', '.join(known)}. {did_you_mean(str(name), known)}" if known else "it takes none"
        return f'"lr_scheduler_kwargs": {shape} has no setting "{name}"; {there}'.rstrip()
    kind = known[str(name)]
    at = f'"lr_scheduler_kwargs.{name}" must be'
    if isinstance(kind, tuple):
        return None if value in kind else f"{at} one of {', '.join(kind)}, not {value!r}"
    if kind == TRUTH:
        return None if isinstance(value, bool) else f"{at} {kind}, not {value!r}"
    number = not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value < float("inf")
    if not number or (kind == WHOLE and value != int(value)) or (kind == BELOW_ONE and not 0 < value < 1):  # type: ignore[call-overload, operator]
        return f"{at} {kind}, not {value!r}"
    if name in ABOVE_ZERO and value == 0:
        return f"{at} above 0"
    return None
