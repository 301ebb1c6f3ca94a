"""A step that cannot be trusted: a loss that is no number, or one far above the usual."""

from __future__ import annotations

import math

import pytest
import torch

from trainkit.health import SETTLED, Health

CPU = torch.device("cpu")


def judged(health: Health, loss: float, norm: float = 1.0, *, trains: bool = True) -> float:
    return float(health.judge(torch.tensor(loss), torch.tensor(norm), trains=trains))


def settled(level: float = 2.0) -> Health:
    health = Health(CPU, {})
    for _ in range(SETTLED):
        assert judged(health, level) == 0
    return health


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan), (1.0, math.inf)])
def test_what_is_no_number_is_bad_from_the_first_step_on(loss: float, norm: float) -> None:
    assert judged(Health(CPU, {}), loss, norm) == 1


def test_a_loss_far_above_the_usual_is_bad_once_the_usual_is_known() -> None:
    assert judged(Health(CPU, {}), 1e6) == 0
    health = settled(2.0)
    assert judged(health, 19.9) == 0
    assert judged(settled(2.0), 20.5) == 1
    assert judged(settled(0.01), 5.0) == 0  # ten times a tiny loss is no explosion
    assert judged(settled(0.01), 10.5) == 1


def test_a_bad_loss_does_not_become_the_usual_one() -> None:
    health = settled(2.0)
    for _ in range(100):
        assert judged(health, 50.0) == 1
    assert float(health.level) == pytest.approx(2.0)


def test_a_step_that_trains_nothing_is_skipped_and_counts_for_nothing() -> None:
    health = settled(2.0)
    assert judged(health, 0.0, trains=False) == 2
    assert float(health.level) == pytest.approx(2.0)


def test_what_is_kept_is_all_that_it_knows() -> None:
    kept: dict[str, torch.Tensor] = {}
    health = Health(CPU, kept)
    for loss in (3.0, 2.0, 1.0):
        judged(health, loss)
    copy = Health(CPU, {name: value.clone() for name, value in kept.items()})
    assert (float(copy.level), float(copy.seen)) == (float(health.level), 3.0)
