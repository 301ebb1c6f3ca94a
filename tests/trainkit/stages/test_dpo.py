"""The preference stage: tokens become answers, answers pairs, and what LLaMA-Factory lets one add to the loss."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from trainkit.config import PreferenceConfig, load_config
from trainkit.data.collate import Batch
from trainkit.logprobs import TokenLogprobs
from trainkit.stages.dpo import length_desensitised, make_loss, needs_reference
from trainkit.stages.losses.bco import RunningMean

DEFAULT = load_config({"model_name_or_path": "m", "pref_beta": 0.5}).preference
BATCH = Batch(*(torch.zeros(4, 8, dtype=torch.int64),) * 3, weight=2, num_tokens=4, indices=(0, 1))
# two pairs: chosen answers of 2 and 1 tokens, then rejected ones of 1 and 3
VALUES, ROWS = [-1.0, -3.0, -2.0, -5.0, -1.0, -2.0, -6.0], [0, 0, 1, 2, 3, 3, 3]


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def answers(values: list[float] = VALUES) -> TokenLogprobs:
    return TokenLogprobs(torch.tensor(values), torch.tensor(ROWS), 4)


def settings(**changes: object) -> PreferenceConfig:
    return replace(DEFAULT, **changes)  # type: ignore[arg-type]


def test_tokens_are_summed_to_answers_chosen_first_and_pairs_are_summed() -> None:
    loss, metrics = make_loss(DEFAULT)(answers(), BATCH, torch.zeros(2, 2))
    assert (float(metrics["logps/chosen"]), float(metrics["logps/rejected"])) == (-6.0, -14.0)
    assert float(loss) == pytest.approx(-log_sigmoid(0.5 * 1) - log_sigmoid(0.5 * 7), rel=1e-6)
    assert float(metrics["rewards/margins"]) == pytest.approx(0.5 * 8)
    assert float(metrics["rewards/accuracies"]) == 2.0


@pytest.mark.parametrize("name", ["ipo", "simpo", "orpo"])
def test_these_losses_see_means_of_tokens(name: str) -> None:
    reference = torch.tensor([[-2.0, -1.0], [-2.0, -3.0]])
    _, metrics = make_loss(settings(pref_loss=name))(answers(), BATCH, None if name != "ipo" else reference)
    assert (float(metrics["logps/chosen"]), float(metrics["logps/rejected"])) == (-2.0 + -2.0, -5.0 + -3.0)
    if name == "ipo":  # the reference is divided by the same lengths: chosen by 2 and 1, rejected by 1 and 3
        assert float(metrics["rewards/chosen"]) == pytest.approx(0.5 * (-2 + 1 + -2 + 1))
    assert ("odds_ratio_loss" in metrics) == (name == "orpo")


def test_pref_ftx_adds_the_mean_negative_log_likelihood_of_chosen_answers() -> None:
    plain, _ = make_loss(DEFAULT)(answers(), BATCH, torch.zeros(2, 2))
    with_sft, _ = make_loss(settings(pref_ftx=0.25))(answers(), BATCH, torch.zeros(2, 2))
    assert float(with_sft - plain) == pytest.approx(0.25 * (4 / 2 + 2 / 1))


def test_pref_bco_weight_mixes_in_the_other_loss_and_moves_its_running_mean() -> None:
    baseline = RunningMean(torch.zeros(()), torch.zeros(()))
    loss = make_loss(settings(pref_bco_weight=1.0), baseline)
    mixed, _ = loss(answers(), BATCH, torch.zeros(2, 2))
    rewards = [-2.0, -1.0, -2.5, -4.5]  # 0.5 times the four sums
    level = sum(rewards) / 4
    bco = sum(-log_sigmoid(r - level) for r in rewards[:2]) + sum(-log_sigmoid(level - r) for r in rewards[2:])
    plain = -log_sigmoid(0.5 * 1) - log_sigmoid(0.5 * 7)
    assert float(mixed) == pytest.approx((plain + bco) / 2, rel=1e-5)
    assert (float(baseline.mean), float(baseline.count)) == (level, 1.0)
    with torch.no_grad():  # an evaluation leaves it as it is
        loss(answers(), BATCH, torch.ones(2, 2))
    loss(answers(), replace(BATCH, idle=True), torch.ones(2, 2))
    assert (float(baseline.mean), float(baseline.count)) == (level, 1.0)


def test_ld_alpha_weighs_what_is_longer_than_the_other_answer() -> None:
    """Pair 0 shares 1 token, pair 1 shares 1: the chosen answer of the one and the rejected of the other go on."""
    found = length_desensitised(answers(), 0.5)
    assert found.tolist() == [[-1.0 + 0.5 * -3.0, -2.0], [-5.0, -1.0 + 0.5 * (-2.0 + -6.0)]]
    assert length_desensitised(answers(), 1.0).tolist() == answers().by_row().reshape(2, 2).tolist()
    assert length_desensitised(answers(), 0.0).tolist() == [[-1.0, -2.0], [-5.0, -1.0]]


def test_ld_alpha_leaves_the_reference_as_it_is() -> None:
    reference = torch.tensor([[-4.0, -2.0], [-5.0, -9.0]])
    _, metrics = make_loss(settings(ld_alpha=0.0))(answers(), BATCH, reference)
    assert float(metrics["rewards/chosen"]) == pytest.approx(0.5 * ((-1 + 4) + 0))


def test_only_losses_with_a_reference_ask_for_one() -> None:
    assert [needs_reference(settings(pref_loss=name)) for name in ("sigmoid", "ipo", "orpo", "simpo")] == [
        True, True, False, False,
    ]  # fmt: skip
