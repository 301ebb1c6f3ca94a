"""Preference losses one by one: what they are where the policy is the reference, and a pair worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainkit.config import PreferenceConfig, load_config
from trainkit.stages.losses import AVERAGED, PAIR_LOSSES, REFERENCE_FREE, bco
from trainkit.stages.losses.orpo import log_odds_ratio

DEFAULT = load_config({"model_name_or_path": "m"}).preference
LOGPROBS = st.floats(-200, 0, width=32)
# (chosen, rejected) of the policy and of the reference: gains of 1 and -1, so a margin of 2 before beta
POLICY, REFERENCE = torch.tensor([[-2.0], [-5.0]]), torch.tensor([[-3.0], [-4.0]])


def settings(**changes: object) -> PreferenceConfig:
    return replace(DEFAULT, **changes)  # type: ignore[arg-type]


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# The values at policy = reference are those of train_peers 4.1, oracle 2, from the papers' formulas.
@pytest.mark.parametrize(
    ("name", "changes", "value"),
    [
        ("sigmoid", {}, math.log(2)),
        ("sigmoid", {"dpo_label_smoothing": 0.3}, math.log(2)),
        ("hinge", {}, 1.0),
        ("ipo", {}, 25.0),
        ("ipo", {"pref_beta": 0.5}, 1.0),
        ("kto_pair", {}, 0.5),
    ],
)
@given(pairs=st.lists(st.tuples(LOGPROBS, LOGPROBS), min_size=1, max_size=4))
def test_where_the_policy_is_the_reference(
    name: str, changes: dict[str, float], value: float, pairs: list[tuple[float, float]]
) -> None:
    policy = torch.tensor(pairs).T
    found = PAIR_LOSSES[name](policy, policy.clone(), settings(**changes))
    assert found.tolist() == pytest.approx([value] * len(pairs), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sigmoid", -log_sigmoid(1.0)),
        ("hinge", 0.0),
        ("ipo", (2 - 1) ** 2),
        # drifts: max(0, 1) of the chosen half, max(0, -1) of the rejected one
        ("kto_pair", (1 - sigmoid(0.5 * (1 - 0)) + 1 - sigmoid(0.5 * (1 - -1))) / 2),
    ],
)
def test_one_pair_by_hand(name: str, value: float) -> None:
    found = PAIR_LOSSES[name](POLICY, REFERENCE, settings(pref_beta=0.5))
    assert found.tolist() == pytest.approx([value], rel=1e-6)


def test_label_smoothing_by_hand() -> None:
    found = PAIR_LOSSES["sigmoid"](POLICY, REFERENCE, settings(pref_beta=0.5, dpo_label_smoothing=0.2))
    assert found.tolist() == pytest.approx([-0.8 * log_sigmoid(1.0) - 0.2 * log_sigmoid(-1.0)], rel=1e-6)


def test_hinge_learns_from_a_pair_until_it_is_won_by_one() -> None:
    found = PAIR_LOSSES["hinge"](POLICY, REFERENCE, settings(pref_beta=0.25))
    assert found.tolist() == [0.5]


def test_simpo_by_hand() -> None:
    found = PAIR_LOSSES["simpo"](torch.tensor([[-1.0], [-1.5]]), None, settings(pref_beta=2.0, simpo_gamma=0.5))
    assert found.tolist() == pytest.approx([-log_sigmoid(2.0 * 0.5 - 0.5)], rel=1e-6)


def test_orpo_by_hand() -> None:
    chosen, rejected = 0.8, 0.25  # mean probabilities of a token
    odds = math.log(chosen / (1 - chosen)) - math.log(rejected / (1 - rejected))
    policy = torch.tensor([[math.log(chosen)], [math.log(rejected)]])
    found = PAIR_LOSSES["orpo"](policy, None, settings(pref_beta=0.1))
    assert found.tolist() == pytest.approx([-math.log(chosen) - 0.1 * log_sigmoid(odds)], rel=1e-5)


@given(LOGPROBS, LOGPROBS)
def test_odds_stay_finite_also_for_certain_answers(chosen: float, rejected: float) -> None:
    policy = torch.tensor([[chosen], [rejected]]).requires_grad_()
    ratio = log_odds_ratio(policy)
    ratio.sum().backward()
    assert ratio.isfinite().all()
    assert policy.grad is not None
    assert policy.grad.isfinite().all()


def test_bco_judges_each_answer_against_the_running_mean() -> None:
    mean = bco.RunningMean(torch.zeros(()), torch.zeros(()))
    assert [float(mean.update(torch.tensor(value))) for value in (2.0, 4.0, 0.0)] == [2.0, 3.0, 2.0]
    same = bco.loss(POLICY, POLICY, 0.1, torch.zeros(()))
    assert same.tolist() == pytest.approx([2 * math.log(2)])
    found = bco.loss(POLICY, REFERENCE, 0.5, torch.tensor(0.25))
    assert found.tolist() == pytest.approx([-log_sigmoid(0.25) - log_sigmoid(0.75)], rel=1e-6)


def test_which_losses_compare_means_and_which_need_no_reference() -> None:
    assert set(AVERAGED) == {"ipo", "orpo", "simpo"}
    assert set(REFERENCE_FREE) == {"orpo", "simpo"}
    for name in set(PAIR_LOSSES) - set(REFERENCE_FREE):
        with pytest.raises((AssertionError, TypeError)):
            PAIR_LOSSES[name](POLICY, None, DEFAULT)


@pytest.mark.parametrize("name", PAIR_LOSSES)
@given(pairs=st.lists(st.tuples(*[st.floats(-8, -0.25, width=32)] * 4), min_size=1, max_size=3))
def test_the_better_answer_is_never_pushed_down(name: str, pairs: list[tuple[float, ...]]) -> None:
    table = torch.tensor(pairs).T
    policy = table[:2].clone().requires_grad_()
    near = settings(pref_beta=0.01)  # ipo aims at a gap of 50, which none of these has
    PAIR_LOSSES[name](policy, table[2:], near).sum().backward()
    assert policy.grad is not None
    if name != "kto_pair":  # there an answer is also the other half's estimate
        assert (policy.grad[0] <= 1e-9).all()
        assert (policy.grad[1] >= -1e-9).all()
