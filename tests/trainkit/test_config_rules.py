"""Keys that do not go together: each pair is told with the lines of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from registry.errors import Faults
from trainkit.config import load_config
from trainkit.config_rules import combination_faults, derive, unbuilt
from trainkit.keys import check_keys

LEAST: dict[str, Any] = {"model_name_or_path": "m", "dataset": "a,b", "do_train": True, "use_cpu": True}


def rules(**keys: Any) -> list[str]:
    return combination_faults(check_keys({**LEAST, **keys}).values)


def notes(**keys: Any) -> list[str]:
    return derive(check_keys({**LEAST, **keys}).values)[1]


def test_defaults_break_no_rule() -> None:
    assert rules() == []
    assert unbuilt(check_keys(LEAST).values) == []
    assert derive(check_keys(LEAST).values) == ({}, [])


def test_each_fault_has_the_lines_of_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "model_name_or_path: m\ndo_train: true\nstage: pt\nval_size: 0.1\neval_dataset: e\nmask_history: true\n"
        "num_train_epochs: 0\nstreaming: true\nmax_samples: 5\n"
    )
    with pytest.raises(Faults) as caught:
        load_config(path, ["neat_packing=true"])
    assert caught.value.faults == (
        'line 2, "dataset" is missing: name one or more datasets to train on',
        'line 4, "val_size" needs a "dataset" to take rows from',
        'lines 4 and 5, "val_size" and "eval_dataset" exclude each other',
        'lines 4 and 8, "val_size: 0.1" is a share, and streaming does not know the number of rows; give a whole number',
        'lines 8 and 9, "max_samples" and "streaming" exclude each other',
        'line 8, "streaming" needs "max_steps": the number of rows is not known beforehand',
        'lines 3 and 6, "mask_history" is for stage sft only',
        'line 3, "neat_packing" is for stage sft only',
        'line 7, "num_train_epochs" must be above 0',
    )


def test_a_fault_of_an_older_name_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model_name_or_path: m\nevaluation_strategy: steps\n")
    with pytest.raises(Faults) as caught:
        load_config(path)
    assert caught.value.faults == ('line 2, evaluation needs "eval_dataset" or "val_size"',)


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"interleave_probs": "0.5,0.5"}, '"interleave_probs": concat draws nothing'),
        (
            {"interleave_probs": "1", "mix_strategy": "interleave_under"},
            '"interleave_probs": 1 probabilities for 2 datasets',
        ),
        ({"interleave_probs": "0.5,0.4", "mix_strategy": "interleave_over"}, "add up to 0.9"),
        ({"interleave_probs": "1.5,-0.5", "mix_strategy": "interleave_under"}, "-0.5 is no probability"),
        (
            {"interleave_probs": "0.5,0.5", "mix_strategy": "interleave_under", "eval_dataset": "c"},
            '"interleave_probs" (for eval_dataset): 2 probabilities for 1 datasets',
        ),
    ],
)
def test_probabilities_must_suit_the_datasets_that_are_mixed(keys: dict[str, Any], fault: str) -> None:
    found = rules(**keys)
    assert len(found) == 1
    assert fault in found[0]


def test_probabilities_that_suit_are_no_fault() -> None:
    assert rules(interleave_probs=[0.3, 0.7], mix_strategy="interleave_once") == []


def test_label_smoothing_is_for_the_sigmoid_loss() -> None:
    found = rules(stage="dpo", pref_loss="ipo", dpo_label_smoothing=0.1)
    assert found == ['"dpo_label_smoothing" is for pref_loss sigmoid only, not for ipo']
    assert rules(stage="dpo", pref_loss="ipo", dpo_label_smoothing=1e-7) == []


@pytest.mark.parametrize(
    ("keys", "note"),
    [
        (
            {"packing": True, "batching_strategy": "token_balanced"},
            "packed blocks are of one length, so batching_strategy: token_balanced changes nothing",
        ),
        (
            {"disable_shuffling": True, "batching_strategy": "length_grouped"},
            "disable_shuffling keeps the rows in order, so batching_strategy: length_grouped is off",
        ),
        (
            {"use_cpu": False},
            "bf16 is off: everything is computed in fp32, which a GPU does at a fraction of its speed",
        ),
    ],
)
def test_what_changes_nothing_or_costs_much_is_said(keys: dict[str, Any], note: str) -> None:
    assert rules(**keys) == []
    assert notes(**keys) == [note]
