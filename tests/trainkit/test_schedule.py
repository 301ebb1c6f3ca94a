"""The learning rate at every step: transformers' own schedulers are the oracle."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from trainkit.config import load_config
from trainkit.keys import key_table
from trainkit.schedule import SHAPES, WITH_WARMUP, lr_at, make_schedule, warmup_length
from trainkit.schedule_rules import METRIC_DRIVEN, SCHEDULES

PEAK = 3e-4
TOTAL = 37
CASES: list[tuple[str, dict[str, Any] | None]] = [
    ("linear", None),
    ("constant", None),
    ("constant_with_warmup", None),
    ("cosine", None),
    ("cosine", {"num_cycles": 1.5}),
    ("polynomial", None),
    ("polynomial", {"power": 2.0, "lr_end": 1e-5}),
    ("inverse_sqrt", None),
    ("inverse_sqrt", {"timescale": 20}),
    ("cosine_with_min_lr", {"min_lr": 1e-5}),
    ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
    ("cosine_with_min_lr", {"min_lr_rate": 0.1, "num_cycles": 0.3}),
    ("cosine_with_restarts", None),
    ("cosine_with_restarts", {"num_cycles": 3}),
    ("cosine_warmup_with_min_lr", {"min_lr": 1e-5}),
    ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.1, "warmup_lr_rate": 0.2, "num_cycles": 0.4}),
    ("warmup_stable_decay", {"num_decay_steps": 12}),
    ("warmup_stable_decay", {"num_decay_steps": 9, "num_stable_steps": 4, "min_lr_ratio": 0.1}),
    ("warmup_stable_decay", {"num_decay_steps": 0}),
    ("warmup_stable_decay", {"num_decay_steps": 20, "warmup_type": "cosine", "decay_type": "linear"}),
    (
        "warmup_stable_decay",
        {"num_decay_steps": 20, "warmup_type": "1-sqrt", "decay_type": "1-sqrt", "min_lr_ratio": 0.2},
    ),
    ("warmup_stable_decay", {"num_decay_steps": 20, "num_cycles": 1.5}),
]
BY_METRIC: list[tuple[str, dict[str, Any]]] = [
    ("reduce_lr_on_plateau", {"patience": 1}),
    ("reduce_lr_on_plateau", {"patience": 0, "factor": 0.5, "cooldown": 2, "min_lr": 1e-4}),
    ("reduce_lr_on_plateau", {"mode": "max", "patience": 1, "threshold": 0.1, "threshold_mode": "abs"}),
    ("greedy", {}),
    ("greedy", {"patience": 1, "min_lr": 1e-4, "max_lr": 4e-4}),
    ("greedy", {"patience": 0, "min_lr": 2e-4, "cooldown": 1, "warmup": 2, "factor": 0.7, "reset_start": 3}),
    ("greedy", {"patience": 0, "mode": "max", "threshold_mode": "rel", "threshold": 0.05, "min_lr": 1e-5}),
    ("greedy", {"patience": 0, "smooth": True, "window_size": 3, "min_lr": 2.9e-4, "reset_start": 2}),
]
METRICS = [3.0, 2.5, 2.6, 2.4, 2.4, 2.41, 2.39, 2.0, 2.2, 2.3, 2.5, 2.6, 1.9, 1.8, 1.7, 1.6, 1.5, 1.9, 2.0, 2.1] * 2


def theirs(shape: str, warmup: int, settings: dict[str, Any] | None, steps: int) -> list[float]:
    """The rates that ``transformers.get_scheduler`` sets before each of ``steps`` optimizer steps."""
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = get_scheduler(
        shape, optimizer, num_warmup_steps=warmup, num_training_steps=TOTAL, scheduler_specific_kwargs=settings
    )
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("warmup", [0, 1, 5, TOTAL - 1])
@pytest.mark.parametrize(("shape", "settings"), CASES)
def test_every_rate_is_that_of_transformers(shape: str, settings: dict[str, Any] | None, warmup: int) -> None:
    ours = [
        lr_at(step, peak=PEAK, shape=shape, total_steps=TOTAL, warmup=warmup, settings=settings)
        for step in range(TOTAL)
    ]
    assert ours == pytest.approx(theirs(shape, warmup, settings, TOTAL), rel=1e-9, abs=1e-15)


def test_every_schedule_that_a_config_may_name_is_compared() -> None:
    assert {shape for shape, _ in (*CASES, *BY_METRIC)} == set(SCHEDULES)
    assert {*SHAPES, *WITH_WARMUP, *METRIC_DRIVEN} == set(SCHEDULES) == set(key_table()["lr_scheduler_type"]["choices"])


def schedule_of(shape: str, settings: dict[str, Any] | None, **changes: Any) -> Any:
    keys = {
        "model_name_or_path": "m",
        "learning_rate": PEAK,
        "lr_scheduler_type": shape,
        "lr_scheduler_kwargs": settings,
    }
    if shape in METRIC_DRIVEN:
        changes |= {"eval_strategy": "steps", "dataset": "rows", "val_size": 10}
    return make_schedule(load_config({**keys, **changes}).optim, TOTAL)


@pytest.mark.parametrize(("shape", "settings"), BY_METRIC)
def test_a_schedule_that_hears_of_evaluations_is_that_of_transformers(shape: str, settings: dict[str, Any]) -> None:
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    oracle = get_scheduler(shape, optimizer, scheduler_specific_kwargs=settings)
    ours = schedule_of(shape, settings)
    assert ours.needs_metric
    rates = []
    for metric in METRICS:
        ours.saw(metric)
        oracle.step(metric)
        assert ours.lr(7) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        rates.append(ours.lr(7))
    assert len(set(rates)) > 1 or settings == {}


@pytest.mark.parametrize(("shape", "settings"), BY_METRIC)
def test_a_schedule_that_is_saved_and_loaded_goes_on(shape: str, settings: dict[str, Any]) -> None:
    for cut in (0, 9):
        whole, second = schedule_of(shape, settings), schedule_of(shape, settings)
        for metric in METRICS[:cut]:
            whole.saw(metric)
        second.load_state(json.loads(json.dumps(whole.state(), allow_nan=False)))
        for metric in METRICS[cut:]:
            whole.saw(metric)
            second.saw(metric)
            assert second.lr(0) == whole.lr(0)


def test_a_schedule_of_steps_keeps_nothing_and_hears_nothing() -> None:
    schedule = schedule_of("linear", None, warmup_ratio=0.1)
    assert not schedule.needs_metric
    schedule.saw(1.0)
    assert schedule.state() == {}
    assert schedule.lr(5) == lr_at(5, peak=PEAK, shape="linear", total_steps=TOTAL, warmup=4)


def test_a_third_after_the_warm_up_is_level_where_no_length_is_given() -> None:
    """30 steps, 6 of warm-up: 8 level, 16 down (LLaMA-Factory's reading of warmup_stable_decay)."""
    rates = [lr_at(s, peak=1.0, shape="warmup_stable_decay", total_steps=30, warmup=6) for s in range(30)]
    assert [s for s, rate in enumerate(rates) if rate == 1.0] == list(range(6, 15))  # the descent begins at the top


@pytest.mark.parametrize(
    ("step", "rate"),
    # by hand: 10 steps up to 1.0, then 20 down to 0
    [(0, 0.0), (5, 0.5), (9, 0.9), (10, 1.0), (11, 0.95), (20, 0.5), (29, 0.05), (30, 0.0), (31, 0.0)],
)
def test_linear_at_its_joints(step: int, rate: float) -> None:
    assert lr_at(step, peak=1.0, shape="linear", total_steps=30, warmup=10) == pytest.approx(rate)


def test_constant_knows_no_warm_up() -> None:
    assert lr_at(0, peak=1.0, shape="constant", total_steps=30, warmup=10) == 1.0


def test_a_peak_of_zero_stays_zero() -> None:
    assert lr_at(3, peak=0.0, shape="cosine_with_min_lr", total_steps=10, warmup=2, settings={"min_lr": 1e-5}) == 0.0


@pytest.mark.parametrize(
    ("steps", "ratio", "total", "length"),
    [
        (0, None, 100, 0),
        (0, 0.1, 100, 10),
        (0, 0.1, 101, 11),
        (7, 0.1, 100, 7),
        (0.05, 0.1, 100, 5),
        (0.011, None, 100, 2),
        (1, None, 9, 1),
    ],
)
def test_warmup_steps_beat_the_ratio_and_a_share_is_rounded_up(
    steps: float, ratio: float | None, total: int, length: int
) -> None:
    assert warmup_length(steps, ratio, total) == length


@pytest.mark.parametrize("steps", [0, 3, 0.1, 0.33])
def test_the_warm_up_is_as_long_as_in_transformers(steps: float, tmp_path: Any) -> None:
    from transformers import TrainingArguments

    arguments = TrainingArguments(output_dir=str(tmp_path), warmup_steps=steps, use_cpu=True)
    assert [warmup_length(steps, None, total) for total in (1, 10, 37)] == [
        arguments.get_warmup_steps(total) for total in (1, 10, 37)
    ]
