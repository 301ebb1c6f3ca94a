"""The losses of sft against formulas spelled out over whole logits of a plain forward pass."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from registry.encode import IGNORE, Example
from registry.errors import Faults
from trainkit.config import LossConfig, load_config
from trainkit.data.collate import Batch, collate_sequences
from trainkit.head import find_head
from trainkit.stages import asft, dft, eaft, pt, sft

X = IGNORE
PLAIN = LossConfig(
    use_dft_loss=False,
    use_asft_loss=False,
    asft_alpha=0.3,
    use_eaft_loss=False,
    eaft_alpha=1.0,
    neftune_noise_alpha=None,
)


@pytest.fixture(scope="module")
def model(model_folder: Path) -> nn.Module:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model_folder).eval()


@pytest.fixture(scope="module")
def base(model_folder: Path) -> nn.Module:
    """The same model, some way off."""
    from transformers import AutoModelForCausalLM

    other = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(2)
    return other


def batch() -> Batch:
    rows = [([5, 6, 7, 8, 9, 10], [X, X, 7, 8, X, 10], None), ([30, 31, 32], [30, 31, 32], [0.5] * 3)]
    examples = [
        Example(array("i", ids), array("i", labels), weights=own_weights and array("f", own_weights))
        for ids, labels, own_weights in rows
    ]
    return collate_sequences(examples, (0, 1), 0, strict=False)


AT = ((0, 0, 0, 1, 1), (1, 2, 4, 0, 1))  # where the five trained tokens are predicted
TARGETS, WEIGHTS = torch.tensor([7, 8, 10, 31, 32]), torch.tensor([1, 1, 1, 0.5, 0.5])


def logits_of(model: nn.Module) -> torch.Tensor:
    one = batch()
    return model(input_ids=one.input_ids, attention_mask=one.attention_mask).logits[AT]  # type: ignore[no-any-return]


def own(model: nn.Module) -> torch.Tensor:
    return logits_of(model).log_softmax(1)[range(5), TARGETS]


def by_entropy(model: nn.Module, alpha: float) -> torch.Tensor:
    top = logits_of(model).topk(20, dim=1).values.softmax(1)
    return (-(top * top.log()).sum(1) / 3) ** alpha


def divergence(model: nn.Module, base: nn.Module) -> torch.Tensor:
    policy, held = logits_of(model).log_softmax(1), logits_of(base).log_softmax(1).detach()
    return (held.exp() * (held - policy)).sum(1)


NAIVE: dict[str, tuple[dict[str, Any], Callable[[nn.Module, nn.Module], torch.Tensor]]] = {
    "plain": ({}, lambda m, b: -own(m)),
    "dft": ({"use_dft_loss": True}, lambda m, b: -own(m).exp().detach() * own(m)),
    "eaft": ({"use_eaft_loss": True, "eaft_alpha": 2.0}, lambda m, b: -by_entropy(m, 2.0).detach() * own(m)),
    "asft": ({"use_asft_loss": True}, lambda m, b: -own(m).exp().detach() * own(m) + 0.3 * divergence(m, b)),
}


@pytest.mark.parametrize("with_head", [True, False])
@pytest.mark.parametrize("name", NAIVE)
def test_a_loss_and_its_gradients_are_those_of_the_formula(
    name: str, with_head: bool, model: nn.Module, base: nn.Module
) -> None:
    settings, formula = NAIVE[name]
    forward = sft.make_forward(replace(PLAIN, **settings))
    found, _ = sft.make_loss(PLAIN)(
        forward(model, batch(), find_head(model) if with_head else None, base), batch(), None
    )
    expected = (formula(model, base) * WEIGHTS).sum()
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    parameters = list(model.parameters())
    for ours, theirs in zip(*(torch.autograd.grad(v, parameters) for v in (found, expected)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_token_accuracy_is_counted_when_asked_for(model: nn.Module) -> None:
    found = sft.make_forward(PLAIN, want_correct=True)(model, batch(), find_head(model), None)
    _, metrics = sft.loss(found, batch(), None)
    right = (logits_of(model).argmax(1) == TARGETS).sum()
    assert metrics["token_accuracy"].tolist() == [float(right), 5.0]
    assert sft.loss(sft.make_forward(PLAIN)(model, batch(), None, None), batch(), None)[1] == {}


def test_pretraining_has_the_loss_of_sft() -> None:
    assert (pt.loss, pt.make_forward) == (sft.loss, sft.make_forward)


def test_factors_by_hand() -> None:
    assert dft.factor(torch.tensor([0.0, -1.0]), lambda: torch.zeros(2)).tolist() == pytest.approx([1, 0.3678794])
    assert asft.factor is dft.factor
    assert eaft.make_factor(2.0)(torch.zeros(2), lambda: torch.tensor([3.0, 1.5])).tolist() == [1, 0.25]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"use_dft_loss": True, "use_eaft_loss": True}, "are different losses: choose one"),
        ({"use_asft_loss": True, "stage": "dpo"}, "for stage sft, not for dpo"),
    ],
)
def test_one_loss_at_a_time_and_only_in_sft(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(Faults, match=said):
        load_config({"model_name_or_path": "m", "stage": "sft", **changes}, training=False)
