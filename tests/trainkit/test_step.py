"""One optimizer step: how it is cut into micro-batches changes nothing."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from registry.encode import IGNORE, Example, PreferenceExample
from trainkit.backends.single import Single
from trainkit.config import load_config
from trainkit.data.collate import Batch, collate_pairs, collate_sequences
from trainkit.stages import STAGES
from trainkit.step import StepReport, optimizer_step

SETTINGS = load_config({"model_name_or_path": "m"}).preference


class KeepsGradients:
    """An optimizer that changes no weight and keeps what it was given."""

    def __init__(self, model: nn.Module) -> None:
        self.parameters = dict(model.named_parameters())
        self.param_groups: list[dict[str, Any]] = [{"lr": None}, {"lr": None}]
        self.kept: dict[str, torch.Tensor] = {}

    def step(self) -> None:
        self.kept = {name: p.grad.clone() for name, p in self.parameters.items() if p.grad is not None}

    def zero_grad(self, set_to_none: bool = False) -> None:
        for parameter in self.parameters.values():
            parameter.grad = None


@pytest.fixture(scope="module")
def model(model_folder: Path) -> nn.Module:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model_folder).eval()


def answer(number: int) -> Example:
    """Of 4 + number tokens, the last number + 1 trained: no two examples weigh the same."""
    ids = [10 + (7 * number + 3 * at) % 290 for at in range(4 + number)]
    return Example(array("i", ids), array("i", [IGNORE] * 3 + ids[3:]))


ANSWERS = [answer(number) for number in range(8)]
PAIRS = [PreferenceExample(answer(number), answer(number + 2)) for number in range(8)]


def cut(examples: Sequence[Any], size: int, collate: Any) -> list[Batch]:
    return [
        collate(examples[i : i + size], range(i, min(i + size, len(examples))), 0, strict=False)
        for i in range(0, len(examples), size)
    ]


def take_step(
    model: nn.Module,
    batches: list[Batch],
    stage: str = "sft",
    *,
    backend: Single | None = None,
    max_grad_norm: float = 0.0,
    lr: float = 0.1,
) -> tuple[StepReport, KeepsGradients]:
    keeper = KeepsGradients(model)
    reference = torch.linspace(-60, -20, 16).reshape(2, 8)
    references = [reference[:, list(batch.indices)] if stage == "dpo" else None for batch in batches]
    report = optimizer_step(
        model, batches, references, STAGES[stage].make_loss(SETTINGS), keeper, list(model.parameters()),  # type: ignore[arg-type]
        backend or Single(use_cpu=True, bf16=False), lr=lr, max_grad_norm=max_grad_norm, head_only=True,
    )  # fmt: skip
    return report, keeper


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("stage", "examples", "collate"), [("sft", ANSWERS, collate_sequences), ("dpo", PAIRS, collate_pairs)]
)
def test_splitting_a_batch_changes_no_loss_and_no_gradient(
    model: nn.Module, stage: str, examples: list[Any], collate: Any, size: int
) -> None:
    whole, whole_kept = take_step(model, cut(examples, 8, collate), stage)
    parts, parts_kept = take_step(model, cut(examples, size, collate), stage)  # 3 and 5 leave a short last one
    assert float(parts.loss) == pytest.approx(float(whole.loss), abs=1e-6)
    assert float(parts.grad_norm) == pytest.approx(float(whole.grad_norm), rel=1e-5)
    assert (parts.num_tokens, parts.num_trained) == (whole.num_tokens, whole.num_trained)
    for name in parts.metrics:
        assert float(parts.metrics[name]) == pytest.approx(float(whole.metrics[name]), rel=1e-5, abs=1e-6)
    for name, gradient in whole_kept.kept.items():
        torch.testing.assert_close(parts_kept.kept[name], gradient, rtol=1e-4, atol=1e-6)


def test_the_loss_is_the_mean_over_trained_tokens_not_over_batches(model: nn.Module) -> None:
    report, _ = take_step(model, cut(ANSWERS, 1, collate_sequences))
    alone = [take_step(model, [batch])[0] for batch in cut(ANSWERS, 1, collate_sequences)]
    assert report.num_trained == sum(r.num_trained for r in alone) == 1 + 2 + 3 + 4 + 5 + 6 + 7 + 8
    assert float(report.loss) == pytest.approx(sum(float(r.loss) * r.num_trained for r in alone) / 36, abs=1e-5)


def test_the_gradient_is_that_of_plain_transformers(model: nn.Module) -> None:
    (batch,) = cut(ANSWERS, 8, collate_sequences)
    _, keeper = take_step(model, [batch])
    model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(keeper.kept[name], parameter.grad, rtol=1e-4, atol=1e-6)
    model.zero_grad(set_to_none=True)


def test_a_long_gradient_is_cut_to_its_limit_and_reported_uncut(model: nn.Module) -> None:
    batches = cut(ANSWERS, 8, collate_sequences)
    free, uncut = take_step(model, batches, max_grad_norm=0)
    limited, kept = take_step(model, batches, max_grad_norm=float(free.grad_norm) / 4)
    length = torch.stack([g.norm() for g in kept.kept.values()]).norm()
    assert float(length) == pytest.approx(float(free.grad_norm) / 4, rel=1e-4)
    assert float(limited.grad_norm) == pytest.approx(float(free.grad_norm), rel=1e-6)
    assert float(torch.stack([g.norm() for g in uncut.kept.values()]).norm()) == pytest.approx(
        float(free.grad_norm), rel=1e-4
    )


def test_every_group_gets_the_rate_of_the_step(model: nn.Module) -> None:
    _, keeper = take_step(model, cut(ANSWERS, 8, collate_sequences), lr=0.125)
    assert [group["lr"] for group in keeper.param_groups] == [0.125, 0.125]
    assert all(p.grad is None for p in model.parameters())


def test_a_step_in_bf16_is_close_to_one_in_fp32_and_keeps_fp32_weights(model: nn.Module) -> None:
    full, _ = take_step(model, cut(ANSWERS, 4, collate_sequences))
    half, keeper = take_step(model, cut(ANSWERS, 4, collate_sequences), backend=Single(use_cpu=True, bf16=True))
    assert float(half.loss) == pytest.approx(float(full.loss), rel=0.01)
    assert float(half.loss) != float(full.loss)
    assert {g.dtype for g in keeper.kept.values()} == {torch.float32}


def test_weights_below_one_are_a_divisor_like_any_other(model: nn.Module) -> None:
    """Where all tokens weigh the same, how much is of no matter: here all of a step weigh 0.36 together."""
    light = [Example(e.ids, e.labels, weights=array("f", [0.01] * len(e.ids))) for e in ANSWERS]
    plain, plain_kept = take_step(model, cut(ANSWERS, 4, collate_sequences))
    weighed, weighed_kept = take_step(model, cut(light, 4, collate_sequences))
    assert weighed.num_trained == pytest.approx(0.36)
    assert float(weighed.loss) == pytest.approx(float(plain.loss), rel=1e-5)
    for name, gradient in plain_kept.kept.items():
        torch.testing.assert_close(weighed_kept.kept[name], gradient, rtol=1e-4, atol=1e-6)


def test_a_step_without_a_trained_token_changes_nothing(model: nn.Module) -> None:
    nothing = Example(array("i", [5, 6, 7]), array("i", [IGNORE] * 3))
    report, keeper = take_step(model, [collate_sequences([nothing], [0], 0, strict=True)])
    assert (float(report.loss), report.num_trained) == (0.0, 0)
    assert all(float(g.abs().sum()) == 0 for g in keeper.kept.values())
