"""One optimizer step: how it is cut into micro-batches changes nothing."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from registry.encode import IGNORE, Example, FeedbackExample, PreferenceExample
from trainkit.backends.single import Single
from trainkit.config import load_config
from trainkit.data.collate import Batch, RowLayout, collate_feedback, collate_pairs, collate_sequences
from trainkit.head import find_head
from trainkit.health import Health
from trainkit.objective import Objective, ValueHead
from trainkit.stages import STAGES, Settings
from trainkit.step import StepReport, optimizer_step

CONFIG = load_config({"model_name_or_path": "m"})
CPU = torch.device("cpu")


class KeepsGradients(torch.optim.SGD):
    """An optimizer that changes no weight and keeps what it was given."""

    def __init__(self, trained: list[tuple[str, nn.Parameter]]) -> None:
        half = len(trained) // 2
        super().__init__(
            [{"params": [p for _, p in trained[:half]]}, {"params": [p for _, p in trained[half:]]}], lr=1.0
        )
        self.trained = dict(trained)
        self.kept: dict[str, torch.Tensor] = {}

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        found = {n.removeprefix("model."): p.grad for n, p in self.trained.items() if p.grad is not None}
        self.kept = {name: gradient.clone() for name, gradient in found.items()}


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
ROWS = [FeedbackExample(answer(number), answer(number + 1), number % 2 == 0) for number in range(8)]
EXAMPLES: dict[str, tuple[Any, Any]] = {
    "pt": (ANSWERS, collate_sequences),
    "sft": (ANSWERS, collate_sequences),
    "rm": (PAIRS, collate_pairs),
    "dpo": (PAIRS, collate_pairs),
    "kto": (ROWS, collate_feedback),
}


def cut(examples: Sequence[Any], size: int, collate: Any, layout: RowLayout | None = None) -> list[Batch]:
    return [
        collate(examples[i : i + size], range(i, min(i + size, len(examples))), 0, strict=False, layout=layout)
        for i in range(0, len(examples), size)
    ]


def prepared(model: nn.Module, stage: str, *, bf16: bool = False, **changes: Any) -> Single:
    """A backend with the stage's objective around the model."""
    preference = replace(CONFIG.preference, **{k: v for k, v in changes.items() if hasattr(CONFIG.preference, k)})
    loss = replace(CONFIG.loss, **{k: v for k, v in changes.items() if hasattr(CONFIG.loss, k)})
    backend, kept = Single(use_cpu=True, bf16=bf16), {}
    way = STAGES[stage].way(Settings(preference, loss, CPU, backend.sum, kept))
    v_head = None
    if STAGES[stage].has_value_head:
        torch.manual_seed(0)
        v_head = ValueHead(model.config.hidden_size)  # type: ignore[union-attr, arg-type]
    objective = Objective(model, way, find_head(model), v_head=v_head)
    objective.kept, objective.autocast = kept, backend.autocast
    backend.prepare(objective, KeepsGradients)
    return backend


def take_step(
    model: nn.Module,
    batches: list[Batch],
    stage: str = "sft",
    *,
    max_grad_norm: float = 0.0,
    lr: float = 0.1,
    **changes: Any,
) -> tuple[StepReport, KeepsGradients]:
    backend = prepared(model, stage, **changes)
    reference = torch.linspace(-60, -20, 16).reshape(2, 8)
    needed = STAGES[stage].needs_reference(CONFIG.preference)
    references = [reference[:, list(batch.indices)] if needed else None for batch in batches]
    report = optimizer_step(backend, batches, references, lr=lr, max_grad_norm=max_grad_norm, health=Health(CPU, {}))
    assert isinstance(backend.optimizer, KeepsGradients)
    return report, backend.optimizer


def assert_same(found: tuple[StepReport, KeepsGradients], expected: tuple[StepReport, KeepsGradients]) -> None:
    (report, optimizer), (whole, other) = found, expected
    assert float(report.loss) == pytest.approx(float(whole.loss), rel=1e-6, abs=1e-6)
    assert float(report.grad_norm) == pytest.approx(float(whole.grad_norm), rel=1e-5)
    assert (report.num_tokens, report.num_trained) == (whole.num_tokens, whole.num_trained)
    assert report.metrics.keys() == whole.metrics.keys()
    for name in report.metrics:
        assert float(report.metrics[name]) == pytest.approx(float(whole.metrics[name]), rel=1e-5, abs=1e-6)
    assert optimizer.kept.keys() == other.kept.keys()
    for name, gradient in other.kept.items():
        torch.testing.assert_close(optimizer.kept[name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stage", ["pt", "sft", "rm", "dpo"])  # kto's drift is a statistic of the micro-batch
def test_splitting_a_batch_changes_no_loss_and_no_gradient(model: nn.Module, stage: str, size: int) -> None:
    """Oracle 6 of train_peers 4.1: 8 × 1 = 4 × 2 = 2 × 4 = 1 × 8; 3 and 5 leave a short last micro-batch."""
    examples, collate = EXAMPLES[stage]
    whole = take_step(model, cut(examples, 8, collate), stage)
    assert_same(take_step(model, cut(examples, size, collate), stage), whole)


@pytest.mark.parametrize("pref_loss", ["hinge", "ipo", "orpo", "simpo"])
def test_nor_does_it_with_any_other_preference_loss(model: nn.Module, pref_loss: str) -> None:
    settings = {"pref_loss": pref_loss, "pref_ftx": 0.1, "ld_alpha": 0.5}
    whole = take_step(model, cut(PAIRS, 8, collate_pairs), "dpo", **settings)
    assert_same(take_step(model, cut(PAIRS, 3, collate_pairs), "dpo", **settings), whole)


@pytest.mark.parametrize("key", ["use_dft_loss", "use_eaft_loss"])
def test_nor_with_weighed_tokens(model: nn.Module, key: str) -> None:
    whole = take_step(model, cut(ANSWERS, 8, collate_sequences), **{key: True})
    assert_same(take_step(model, cut(ANSWERS, 3, collate_sequences), **{key: True}), whole)


@pytest.mark.parametrize("layout", [RowLayout(24), RowLayout(32, constant=True), RowLayout(200)])
@pytest.mark.parametrize("stage", EXAMPLES)
def test_sharing_rows_changes_no_loss_and_no_gradient(model: nn.Module, stage: str, layout: RowLayout) -> None:
    """Packed = unpacked, for every stage."""
    examples, collate = EXAMPLES[stage]
    padded = take_step(model, cut(examples, 4, collate), stage)
    batches = cut(examples, 4, collate, layout)
    assert all(batch.documents is not None for batch in batches)
    assert_same(take_step(model, batches, stage), padded)


@pytest.mark.parametrize("stage", EXAMPLES)
def test_an_idle_batch_adds_nothing(model: nn.Module, stage: str) -> None:
    examples, collate = EXAMPLES[stage]
    batches = cut(examples, 4, collate)
    assert_same(take_step(model, [*batches, batches[0].as_idle()], stage), take_step(model, batches, stage))


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
    half, keeper = take_step(model, cut(ANSWERS, 4, collate_sequences), bf16=True)
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
    assert (float(report.loss), report.num_trained, float(report.skipped)) == (0.0, 0, 2.0)
    assert keeper.kept == {}  # the optimizer was not called: its moments would have moved the weights


def test_a_loss_that_is_no_number_changes_nothing(model: nn.Module) -> None:
    reference = torch.full((2, 8), torch.nan)
    backend = prepared(model, "dpo")
    batches = cut(PAIRS, 8, collate_pairs)
    report = optimizer_step(backend, batches, [reference], lr=0.1, max_grad_norm=0.0, health=Health(CPU, {}))
    assert float(report.skipped) == 1.0
    assert backend.optimizer.kept == {}  # type: ignore[attr-defined]
    assert all(p.grad is None for p in model.parameters())
