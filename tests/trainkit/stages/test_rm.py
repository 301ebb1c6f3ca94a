"""Reward modelling: scores at the last token of each answer, wherever it lies."""

from __future__ import annotations

import math
from array import array

import pytest
import torch

from registry.encode import Example, PreferenceExample
from trainkit.data.collate import Batch, RowLayout, collate_pairs
from trainkit.stages.rm import last_tokens, loss

BATCH = Batch(*(torch.zeros(4, 8, dtype=torch.int64),) * 3, weight=2, num_tokens=4, indices=(0, 1))


def example(*ids: int) -> Example:
    return Example(array("i", ids), array("i", ids))


def test_by_hand() -> None:
    found, metrics = loss(torch.tensor([1.0, 0.5, -1.0, 2.0]), BATCH, None)
    assert float(found) == pytest.approx(math.log1p(math.exp(-2)) + math.log1p(math.exp(1.5)), rel=1e-6)
    assert {name: float(value) for name, value in metrics.items()} == {
        "rewards/chosen": 1.5, "rewards/rejected": 1.0, "rewards/accuracies": 1.0, "rewards/margins": 0.5,
    }  # fmt: skip


def test_equal_scores_are_log_2() -> None:
    assert float(loss(torch.zeros(4), BATCH, None)[0]) / 2 == pytest.approx(math.log(2))


@pytest.mark.parametrize("layout", [None, RowLayout(8), RowLayout(16, constant=True)])
def test_the_score_is_taken_at_the_last_token_of_each_answer(layout: RowLayout | None) -> None:
    pairs = [
        PreferenceExample(example(1, 2, 3), example(4, 5)),
        PreferenceExample(example(6, 7, 8, 9, 10), example(11)),
    ]
    batch = collate_pairs(pairs, [0, 1], 0, strict=False, layout=layout)
    assert batch.input_ids[last_tokens(batch)].tolist() == [3, 10, 5, 11]
