"""Judged answers: the loss worked out by hand, its drift a statistic of the KL rows."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from trainkit.config import load_config
from trainkit.data.collate import Batch
from trainkit.logprobs import TokenLogprobs
from trainkit.stages.kto import FeedbackLogprobs, make_loss

SETTINGS = load_config({"model_name_or_path": "m", "pref_beta": 0.5}).preference
BATCH = Batch(
    *(torch.zeros(3, 8, dtype=torch.int64),) * 3, weight=3, num_tokens=3, indices=(0, 1, 2),
    desirable=torch.tensor([True, False, True]),
)  # fmt: skip
REFERENCE = torch.tensor([[-3.0, -3.0, -3.0], [-9.0, -9.0, -9.0]])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def outputs(own: list[float] = [-1.0, -2.0, -5.0], kl: list[float] = [-6.0, -8.0, -10.0]) -> FeedbackLogprobs:  # noqa: B006
    return FeedbackLogprobs(TokenLogprobs(torch.tensor(own), torch.arange(3), 3), torch.tensor(kl))


def test_by_hand() -> None:
    """Gains 2, 1 and -2; the drift is (3 + 1 - 1) / 3 = 1."""
    loss, metrics = make_loss(SETTINGS)(outputs(), BATCH, REFERENCE)
    expected = (1 - sigmoid(0.5 * (2 - 1))) + (1 - sigmoid(0.5 * (1 - 1))) + (1 - sigmoid(0.5 * (-2 - 1)))
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    assert float(metrics["kl"]) == pytest.approx(3 * 1.0)  # to be divided by the three rows
    assert metrics["rewards/chosen"].tolist() == [0.5 * (2 - 2), 2.0]
    assert metrics["rewards/rejected"].tolist() == [0.5 * 1, 1.0]
    assert metrics["logps/chosen"].tolist() == [-6.0, 2.0]


def test_where_the_policy_is_the_reference_it_is_one_half() -> None:
    loss, metrics = make_loss(SETTINGS)(outputs([-3.0] * 3, [-9.0] * 3), BATCH, REFERENCE)
    assert float(loss) / 3 == pytest.approx(0.5)
    assert float(metrics["kl"]) == 0


def test_a_negative_drift_counts_as_none_and_carries_no_gradient() -> None:
    kl = torch.tensor([-20.0, -20.0, -20.0], requires_grad=True)
    found = FeedbackLogprobs(
        TokenLogprobs(torch.tensor([-1.0, -2.0, -5.0], requires_grad=True), torch.arange(3), 3), kl
    )
    loss, metrics = make_loss(SETTINGS)(found, BATCH, REFERENCE)
    loss.backward()
    assert float(metrics["kl"]) == 0
    assert kl.grad is None


def test_each_side_has_its_weight() -> None:
    weighed = replace(SETTINGS, kto_chosen_weight=2.0, kto_rejected_weight=0.0)
    loss, _ = make_loss(weighed)(outputs(), BATCH, REFERENCE)
    assert float(loss) == pytest.approx(2 * ((1 - sigmoid(0.5)) + (1 - sigmoid(-1.5))), rel=1e-6)


def test_the_drift_is_that_of_all_ranks_and_idle_batches_add_nothing_to_it() -> None:
    seen: list[list[float]] = []

    def both(value: torch.Tensor) -> torch.Tensor:
        seen.append(value.tolist())
        return value + torch.tensor([9.0, 1.0])  # the other rank has one KL row that drifted by 9

    _, metrics = make_loss(SETTINGS, both)(outputs(), BATCH, REFERENCE)
    assert float(metrics["kl"]) == pytest.approx(3 * (3 + 9) / 4)
    make_loss(SETTINGS, both)(outputs(), replace(BATCH, idle=True), REFERENCE)
    assert seen == [[3.0, 3.0], [0.0, 0.0]]


def test_pref_ftx_adds_the_likelihood_of_desirable_answers() -> None:
    plain, _ = make_loss(SETTINGS)(outputs(), BATCH, REFERENCE)
    added, _ = make_loss(replace(SETTINGS, pref_ftx=0.1))(outputs(), BATCH, REFERENCE)
    assert float(added - plain) / 3 == pytest.approx(0.1 * (1 + 5) / 2 * 3 / 2)
