"""Trackers, early stopping and the best checkpoint: what does not go together is said before anything starts."""

from __future__ import annotations

from typing import Any

import pytest

from registry.errors import Faults
from trainkit.config import load_config

EVALUATES = {
    "model_name_or_path": "m",
    "dataset": "d",
    "eval_dataset": "a,b",
    "eval_strategy": "steps",
    "eval_steps": 5,
}


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"report_to": "tensorbord"}, 'there is no tracker "tensorbord" here. Did you mean "tensorboard"'),
        ({"report_to": ["none", "wandb"]}, '"none" stands alone'),
        ({"early_stopping_steps": 2, "eval_strategy": "no"}, '"early_stopping_steps" goes by what evaluation finds'),
        (
            {"load_best_model_at_end": True, "eval_strategy": "no"},
            '"load_best_model_at_end" goes by what evaluation finds',
        ),
        (
            {"load_best_model_at_end": True, "eval_on_each_dataset": True},
            "set metric_for_best_model: eval_a_loss, or that of another set",
        ),
        ({"compute_accuracy": True, "stage": "dpo"}, '"compute_accuracy" counts tokens'),
        ({"swanlab_mode": "clod"}, 'Did you mean "cloud"?'),
        ({"swanlab_api_key": "k"}, "set SWANLAB_API_KEY and remove this line"),
        ({"swanlab_lark_secret": "k"}, "set SWANLAB_LARK_SECRET and remove this line"),
        ({"early_stopping_steps": 0}, "must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused(keys: dict[str, Any], fault: str) -> None:
    with pytest.raises(Faults) as raised:
        load_config({**EVALUATES, **keys})
    assert fault in str(raised.value)
    assert '"k"' not in str(raised.value)


@pytest.mark.parametrize(
    "keys",
    [
        {"early_stopping_steps": 2, "load_best_model_at_end": True},
        {"load_best_model_at_end": True, "eval_on_each_dataset": True, "metric_for_best_model": "b_loss"},
        {"report_to": "all"},
        {"report_to": None},
        {"report_to": "TensorBoard, wandb"},
        {"stage": "rm", "load_best_model_at_end": True, "compute_accuracy": True},
    ],
)
def test_what_goes_together_is_taken(keys: dict[str, Any]) -> None:
    assert (
        load_config({**EVALUATES, **keys}).notes == load_config(EVALUATES | {"stage": keys.get("stage", "sft")}).notes
    )


@pytest.mark.parametrize(
    ("keys", "note"),
    [
        ({"swanlab_run_name": "x"}, "swanlab_run_name is read only with use_swanlab: true"),
        ({"trackio_space_id": "a/b"}, "trackio_space_id is read only with report_to: trackio"),
        ({"report_to": "trackio", "trackio_static_space_id": "a/c"}, "trackio_space_id names none"),
        ({"greater_is_better": True}, "are read only with early_stopping_steps or load_best_model_at_end"),
    ],
)
def test_a_setting_that_nothing_reads_is_named(keys: dict[str, Any], note: str) -> None:
    assert any(note in said for said in load_config({**EVALUATES, **keys}).notes)


def test_who_watches_a_run_changes_nothing_about_it() -> None:
    plain, watched = (
        load_config({**EVALUATES, **keys}).fingerprint()
        for keys in ({}, {"report_to": "wandb", "run_name": "x", "compute_accuracy": True, "early_stopping_steps": 3})
    )
    assert plain == watched
