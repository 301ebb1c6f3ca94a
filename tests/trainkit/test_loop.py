"""When to log, save and evaluate."""

from __future__ import annotations

import pytest

from trainkit.data.loader import StepPlan
from trainkit.loop import due, interval

PLAN = StepPlan(
    num_examples=20, batch_size=2, accumulation=2, num_epochs=3, max_steps=-1, seed=0, shuffle=False
)  # 5 steps an epoch


@pytest.mark.parametrize(
    ("strategy", "steps", "every"),
    [
        ("steps", 4, 4),
        ("steps", 0.2, 3),
        ("steps", 0.01, 1),
        ("steps", 1, 1),
        ("epoch", 4, 5),
        ("no", 4, None),
        ("steps", None, None),
    ],
)
def test_an_interval_is_a_number_of_steps_a_share_of_all_or_an_epoch(
    strategy: str, steps: float | None, every: int | None
) -> None:
    assert interval(strategy, steps, PLAN) == every


def test_an_event_falls_on_every_interval_and_on_the_last_step() -> None:
    assert [step for step in range(1, 16) if due(step, 4, 15)] == [4, 8, 12, 15]
    assert not any(due(step, None, 15) for step in range(1, 16))
