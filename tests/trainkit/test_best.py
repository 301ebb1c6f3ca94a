"""The best evaluation, and the patience for a better one."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import UsageError
from trainkit.best import Best, watch
from trainkit.config import load_config


def judged(*losses: float, patience: int | None = 2) -> tuple[list[bool], Best]:
    best = Best("eval_loss", greater=False, patience=patience)
    return [best.saw(10 * n, {"eval_loss": loss}) for n, loss in enumerate(losses, start=1)], best


def test_the_least_loss_is_the_best_and_an_equal_one_is_no_progress() -> None:
    improved, best = judged(3.0, 2.0, 2.0, 1.0, patience=None)
    assert improved == [True, True, False, True]
    assert (best.step, best.value, best.stop) == (40, 1.0, False)


def test_patience_counts_evaluations_in_a_row() -> None:
    assert not judged(3.0, 4.0, 2.0, 4.0)[1].stop
    assert judged(3.0, 4.0, 2.0, 4.0, 2.5)[1].stop


def test_a_loss_that_is_no_number_is_never_the_best() -> None:
    improved, best = judged(math.nan, 2.0, math.inf)
    assert improved == [False, True, False]
    assert best.value == 2.0


def test_the_evaluation_before_the_first_step_does_not_count() -> None:
    best = Best("eval_loss", greater=False, patience=1)
    assert not best.saw(0, {"eval_loss": 0.1})
    assert best.saw(10, {"eval_loss": 3.0})
    assert not best.stop


def test_an_evaluation_of_the_same_step_is_judged_once() -> None:
    best = Best("eval_loss", greater=False, patience=2)
    assert [best.saw(step, {"eval_loss": loss}) for step, loss in ((1, 2.0), (1, 2.0), (2, 3.0), (2, 3.0))] == [
        True,
        True,
        False,
        False,
    ]
    assert not best.stop


def test_a_metric_that_evaluation_does_not_find_is_named_with_those_it_does() -> None:
    with pytest.raises(UsageError) as raised:
        Best("eval_acuracy", greater=True, patience=None).saw(0, {"eval_loss": 1.0, "eval_accuracy": 0.5})
    assert 'evaluation finds no "eval_acuracy"' in str(raised.value)
    assert 'Did you mean "eval_accuracy"?' in str(raised.value)


@given(st.lists(st.floats(0, 9), max_size=12), st.integers(0, 12))
def test_a_judge_that_was_saved_goes_on_as_if_it_had_not_been(losses: list[float], cut: int) -> None:
    whole, again = (Best("eval_loss", greater=False, patience=3) for _ in range(2))
    for step, loss in enumerate(losses, start=1):
        whole.saw(step, {"eval_loss": loss})
        if step == cut:
            again.load_state(json.loads(json.dumps(whole.state())))
        elif step > cut:
            again.saw(step, {"eval_loss": loss})
    if cut <= len(losses):
        assert (again.state(), again.stop) == (whole.state(), whole.stop)


def test_another_metric_begins_anew() -> None:
    best = Best("eval_accuracy", greater=True, patience=2)
    best.load_state(judged(3.0)[1].state())
    best.load_state({})
    assert (best.step, best.value) == (None, None)


@pytest.mark.parametrize(
    ("keys", "judge"),
    [
        ({}, None),
        ({"metric_for_best_model": "loss"}, None),
        ({"early_stopping_steps": 3}, ("eval_loss", False, 3)),
        ({"load_best_model_at_end": True, "metric_for_best_model": "eval_accuracy"}, ("eval_accuracy", True, None)),
        ({"load_best_model_at_end": True, "metric_for_best_model": "perplexity"}, ("perplexity", False, None)),
        ({"load_best_model_at_end": True, "metric_for_best_model": "notes_loss"}, ("eval_notes_loss", False, None)),
        (
            {"early_stopping_steps": 1, "metric_for_best_model": "rewards/margins", "greater_is_better": False},
            ("eval_rewards/margins", False, 1),
        ),
    ],
)
def test_less_of_a_loss_is_better_and_more_of_all_else(keys: dict[str, Any], judge: object) -> None:
    loop = dataclasses.replace(load_config({"model_name_or_path": "m"}).loop, **keys)
    found = watch(loop)
    assert (found and (found.metric, found.greater, found.patience)) == judge
