"""The learning rate at every step: transformers' own schedulers are the oracle."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trainkit.config_rules import SCHEDULES_BUILT
from trainkit.schedule import SHAPES, lr_at, warmup_length

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
]


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
    assert {shape for shape, _ in CASES} == set(SCHEDULES_BUILT)
    assert {*SHAPES, "inverse_sqrt"} == set(SCHEDULES_BUILT)


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
