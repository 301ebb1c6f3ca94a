"""Numbers of an evaluation: means over everything that is held out, whatever the batches and however many ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from trainkit.data.collate import Batch
from trainkit.evaluate import mean_loss

# (tokens, loss of each, how many are right) of five examples
EXAMPLES = [(2, 1.0, 1), (5, 3.0, 2), (1, 2.0, 1), (7, 0.5, 7), (3, 4.0, 0)]
TOKENS = 18
LOSS = (2 * 1.0 + 5 * 3.0 + 1 * 2.0 + 7 * 0.5 + 3 * 4.0) / TOKENS


class Told(nn.Module):
    """An objective whose losses are known: those of ``EXAMPLES``; every odd example has a reward, 0.5 higher than asked."""

    def forward(self, batch: Batch, reference: torch.Tensor | None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        assert not self.training
        own = [EXAMPLES[n] for n in batch.indices]
        odd = [n for n in batch.indices if n % 2]
        none = 0.0 if batch.idle else 1.0
        rewards = torch.tensor([sum(n + 0.5 for n in odd) * none, len(odd) * none])
        right = torch.tensor(float(sum(r for _, _, r in own))) * none
        return torch.tensor(sum(n * loss for n, loss, _ in own)) * none, {
            "token_accuracy": right,
            "rewards/odd": rewards,
        }


def batch_of(numbers: Sequence[int], *, idle: bool = False) -> Batch:
    ids = torch.zeros(len(numbers), 8, dtype=torch.int64)
    weight = sum(EXAMPLES[n][0] for n in numbers)
    return Batch(ids, torch.ones_like(ids), ids, weight, 8 * len(numbers), tuple(numbers), idle=idle)


def backend(others: Any = 0.0, ranks: int = 1) -> Any:
    """One rank; ``others`` is what the other ranks add to a sum."""
    device = torch.device("cpu")
    return SimpleNamespace(module=Told().train(), device=device, sum=lambda value: value + others, world_size=ranks)


def found(size: int, **options: Any) -> dict[str, float]:
    batches = [batch_of(range(i, min(i + size, 5))) for i in range(0, 5, size)]
    return mean_loss(backend(), batches, lambda _: None, **{"perplexity": True, **options})


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_numbers_are_means_over_tokens_whatever_the_batches(size: int) -> None:
    numbers = found(size)
    assert numbers["eval_loss"] == pytest.approx(LOSS)
    assert numbers["perplexity"] == pytest.approx(math.exp(LOSS))
    assert numbers["eval_accuracy"] == pytest.approx(11 / TOKENS)
    assert numbers["eval_rewards/odd"] == pytest.approx((1.5 + 3.5) / 2), "over the examples that have one"


def test_strict_takes_the_mean_of_the_batches_means_each_counted_by_its_examples() -> None:
    first, second = (2 * 1.0 + 5 * 3.0 + 1 * 2.0) / 8, (7 * 0.5 + 3 * 4.0) / 10
    assert found(3, by_batch=True)["eval_loss"] == pytest.approx((3 * first + 2 * second) / 5)


def test_one_set_of_several_bears_its_name() -> None:
    assert set(found(5, name="notes")) == {
        "eval_notes_loss", "eval_notes_accuracy", "eval_notes_rewards/odd", "eval_notes_perplexity", "eval_notes_runtime",
        "eval_notes_samples_per_second", "eval_notes_steps_per_second",
    }  # fmt: skip


def test_speed_counts_examples_and_batches() -> None:
    numbers = found(2)
    assert numbers["eval_samples_per_second"] / numbers["eval_steps_per_second"] == pytest.approx(5 / 3, rel=1e-3)
    assert "perplexity" not in found(2, perplexity=False)


def test_pairs_in_the_right_order_are_an_accuracy() -> None:
    class Pairs(nn.Module):
        def forward(self, batch: Batch, reference: object) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            return torch.tensor(1.0), {"rewards/accuracies": torch.tensor(float(batch.weight) / 2)}

    one = backend()
    one.module = Pairs()
    numbers = mean_loss(one, [batch_of([1, 2])], lambda _: None, perplexity=False, pairs_accuracy=True)
    assert numbers["eval_accuracy"] == numbers["eval_rewards/accuracies"] == 0.5


def test_the_shares_of_all_ranks_make_one_number_and_an_idle_batch_counts_nothing() -> None:
    sums: list[torch.Tensor] = []
    other = backend()
    other.sum = lambda value: sums.append(value) or value  # type: ignore[func-returns-value]
    mean_loss(other, [batch_of([3, 4])], lambda _: None, perplexity=False)
    shares = [batch_of([0, 1, 2]), batch_of([0], idle=True)]
    together = mean_loss(backend(sums[0], ranks=2), shares, lambda _: None, perplexity=True)
    alone = found(3)
    for name in ("eval_loss", "eval_accuracy", "eval_rewards/odd", "perplexity"):
        assert together[name] == pytest.approx(alone[name]), name


def test_the_model_goes_on_training_and_nothing_held_out_is_a_loss_of_zero() -> None:
    one = backend()
    assert mean_loss(one, [], lambda _: None, perplexity=False)["eval_loss"] == 0.0
    assert one.module.training


def test_a_reference_is_asked_for_the_batch_it_belongs_to() -> None:
    asked: list[tuple[int, ...]] = []
    mean_loss(backend(), [batch_of([0]), batch_of([2])], lambda b: asked.append(b.indices), perplexity=False)  # type: ignore[func-returns-value,arg-type]
    assert asked == [(0,), (2,)]
