"""The preference loss: Rafailov et al. 2023, eq. 7, and Mitchell's label smoothing, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainkit.config import load_config
from trainkit.data.collate import Batch
from trainkit.logprobs import TokenLogprobs
from trainkit.stages.dpo import make_loss, preference_loss

LOGPROBS = st.floats(-200, 0, width=32)


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


@given(st.lists(st.tuples(LOGPROBS, LOGPROBS), min_size=1, max_size=5), st.floats(0, 0.5), st.floats(0.01, 2))
def test_policy_equal_to_reference_is_log_2(pairs: list[tuple[float, float]], smoothing: float, beta: float) -> None:
    policy = torch.tensor(pairs).T
    loss, metrics = preference_loss(policy, policy.clone(), beta, smoothing)
    assert float(loss) / len(pairs) == pytest.approx(math.log(2), abs=1e-6)
    assert float(metrics["rewards/margins"]) == float(metrics["rewards/accuracies"]) == 0


def test_one_pair_by_hand() -> None:
    # rewards: 0.5 * (-2 + 3) = 0.5 and 0.5 * (-5 + 4) = -0.5; their difference is 1
    loss, metrics = preference_loss(torch.tensor([[-2.0], [-5.0]]), torch.tensor([[-3.0], [-4.0]]), 0.5)
    assert float(loss) == pytest.approx(-log_sigmoid(1.0), abs=1e-6)
    assert {name: float(value) for name, value in metrics.items()} == {
        "rewards/chosen": 0.5,
        "rewards/rejected": -0.5,
        "rewards/accuracies": 1.0,
        "rewards/margins": 1.0,
        "logps/chosen": -2.0,
        "logps/rejected": -5.0,
    }


def test_label_smoothing_by_hand() -> None:
    loss, _ = preference_loss(torch.tensor([[-2.0], [-5.0]]), torch.tensor([[-3.0], [-4.0]]), 0.5, smoothing=0.2)
    assert float(loss) == pytest.approx(-0.8 * log_sigmoid(1.0) - 0.2 * log_sigmoid(-1.0), abs=1e-6)


def test_two_pairs_are_summed_not_averaged() -> None:
    policy, reference = torch.tensor([[-2.0, -1.0], [-5.0, -1.0]]), torch.tensor([[-3.0, -1.0], [-4.0, -1.0]])
    loss, metrics = preference_loss(policy, reference, 0.5)
    assert float(loss) == pytest.approx(-log_sigmoid(1.0) + math.log(2), abs=1e-6)
    assert float(metrics["rewards/accuracies"]) == 1.0


@given(st.tuples(LOGPROBS, LOGPROBS), st.tuples(LOGPROBS, LOGPROBS))
def test_the_better_answer_is_pushed_up_and_the_worse_one_down(
    policy: tuple[float, float], reference: tuple[float, float]
) -> None:
    scores = torch.tensor(policy)[:, None].requires_grad_()
    preference_loss(scores, torch.tensor(reference)[:, None], 0.1)[0].backward()
    chosen, rejected = scores.grad.flatten().tolist()  # type: ignore[union-attr]
    margin = 0.1 * ((policy[0] - reference[0]) - (policy[1] - reference[1]))
    assert chosen == pytest.approx(-rejected)
    assert chosen == pytest.approx(-0.1 / (1 + math.exp(margin)), rel=1e-3, abs=1e-7)


def test_the_loss_sums_tokens_to_answers_chosen_first() -> None:
    batch = Batch(*(torch.zeros(4, 8, dtype=torch.int64),) * 3, weight=2, num_tokens=4, indices=(0, 1))
    values, rows = torch.tensor([-1.0, -1.0, -3.0, -5.0, -7.0]), torch.tensor([0, 0, 1, 2, 3])
    settings = load_config({"model_name_or_path": "m", "pref_beta": 0.5}).preference
    loss, metrics = make_loss(settings)(TokenLogprobs(values, rows, 4), batch, torch.zeros(2, 2))
    assert (float(metrics["logps/chosen"]), float(metrics["logps/rejected"])) == (-5.0, -12.0)
    assert float(loss) == pytest.approx(-log_sigmoid(0.5 * 3) - log_sigmoid(0.5 * 4), abs=1e-6)
