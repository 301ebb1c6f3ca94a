"""Which examples make up which step; transformers' Trainer, driven by accelerate, is the oracle for the order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trainkit.data.loader import StepPlan


def plan(num_examples: int, batch_size: int = 2, accumulation: int = 1, **changes: Any) -> StepPlan:
    return StepPlan(
        num_examples,
        batch_size,
        accumulation,
        **{"num_epochs": 1, "max_steps": -1, "seed": 42, "shuffle": True, **changes},
    )


class Recorder(nn.Module):
    """A model that writes down the examples of each forward pass, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.steps: list[list[list[int]]] = [[]]

    def forward(self, number: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        self.steps[-1].append(number.tolist())
        return {"loss": self.weight.sum()}


def trainers_steps(folder: Path, num_examples: int, **arguments: Any) -> list[list[list[int]]]:
    """The example numbers of each micro-batch of each step of a run by ``transformers.Trainer``."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    model = Recorder()

    class NextStep(TrainerCallback):
        def on_step_end(self, *given: Any, **named: Any) -> None:
            model.steps.append([])

    quiet = {
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "use_cpu": True,
    }
    settings = TrainingArguments(
        output_dir=str(folder), remove_unused_columns=False, dataloader_drop_last=False, **quiet, **arguments
    )
    rows = [{"number": i} for i in range(num_examples)]
    Trainer(model, settings, train_dataset=rows, callbacks=[NextStep()]).train()  # type: ignore[arg-type]
    return [step for step in model.steps if step]


@pytest.mark.parametrize("seed", [42, 7])
@pytest.mark.parametrize(("num_examples", "batch_size", "accumulation"), [(13, 3, 2), (8, 2, 1), (5, 4, 4)])
def test_two_epochs_come_in_the_order_of_transformers_trainer(
    tmp_path: Path, seed: int, num_examples: int, batch_size: int, accumulation: int
) -> None:
    theirs = trainers_steps(
        tmp_path,
        num_examples,
        seed=seed,
        num_train_epochs=2,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
    )
    ours = plan(num_examples, batch_size, accumulation, num_epochs=2, seed=seed)
    assert [ours.step(number) for number in range(ours.total_steps)] == theirs


@pytest.mark.parametrize("epochs", [0.1, 0.5, 1.5, 2.25, 3.0])
def test_a_part_of_an_epoch_is_as_many_steps_as_trainer_takes(tmp_path: Path, epochs: float) -> None:
    theirs = trainers_steps(
        tmp_path, 13, num_train_epochs=epochs, per_device_train_batch_size=3, gradient_accumulation_steps=2
    )
    ours = plan(13, 3, 2, num_epochs=epochs)
    assert [ours.step(number) for number in range(ours.total_steps)] == theirs


def test_max_steps_go_before_epochs_and_beyond_one() -> None:
    assert plan(13, 3, 2, num_epochs=99, max_steps=2).total_steps == 2
    assert plan(4, 2, max_steps=5, shuffle=False).step(4) == [[0, 1]]


def test_without_shuffling_the_rows_keep_their_order_and_the_last_window_is_short() -> None:
    ours = plan(13, 3, 2, shuffle=False)
    assert [ours.step(n) for n in range(3)] == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]], [[12]]]
    assert (ours.micro_per_epoch, ours.steps_per_epoch, ours.total_steps) == (5, 3, 3)


PLANS = st.builds(
    plan,
    st.integers(1, 40),
    st.integers(1, 6),
    st.integers(1, 5),
    num_epochs=st.integers(1, 3),
    seed=st.integers(0, 2**32),
    shuffle=st.booleans(),
)


@given(PLANS)
def test_every_example_comes_once_an_epoch(ours: StepPlan) -> None:
    for epoch in range(int(ours.num_epochs)):
        numbers = range(epoch * ours.steps_per_epoch, (epoch + 1) * ours.steps_per_epoch)
        seen = [i for number in numbers for micro in ours.step(number) for i in micro]
        assert sorted(seen) == list(range(ours.num_examples))


@given(PLANS, st.randoms())
def test_a_step_is_the_same_whatever_was_asked_before_it(ours: StepPlan, random: Any) -> None:
    in_order = [ours.step(number) for number in range(ours.total_steps)]
    numbers = list(range(ours.total_steps))
    random.shuffle(numbers)
    assert {number: ours.step(number) for number in numbers} == dict(enumerate(in_order))


@given(PLANS)
def test_no_micro_batch_is_empty_and_only_the_last_of_an_epoch_is_short(ours: StepPlan) -> None:
    for number in range(ours.total_steps):
        sizes = [len(micro) for micro in ours.step(number)]
        assert all(0 < size <= ours.batch_size for size in sizes)
        if (number + 1) % ours.steps_per_epoch:
            assert sizes == [ours.batch_size] * ours.accumulation


def test_epochs_are_counted_in_micro_batches_as_the_trainer_does() -> None:
    assert plan(13, 3, 2).epoch_after(3) == 1.0
    assert plan(13, 3, 2).epoch_after(4) == pytest.approx(1 + 2 / 5)
