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


LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=40)
KINDS = ("plain", "length_grouped", "token_balanced", "packed", "fixed blocks")


def ranks(kind: str, lengths: list[int], world: int, **changes: Any) -> list[StepPlan]:
    """The plan of every rank, batched or packed in one of five ways; fixed blocks are of three examples."""
    settings: dict[str, Any] = {"lengths": lengths}
    if kind == "packed":
        settings |= {"block_len": 32, "window": 16}
    elif kind == "fixed blocks":
        settings |= {"blocks": [list(range(i, min(i + 3, len(lengths)))) for i in range(0, len(lengths), 3)]}
    else:
        settings |= {"batching": kind}
    return [plan(len(lengths), rank=rank, world=world, **settings, **changes) for rank in range(world)]


def seen_in(step: list[list[Any]], *, packed: bool) -> list[int]:
    return [i for micro in step for unit in micro for i in (unit if packed else [unit])]


@pytest.mark.parametrize("kind", KINDS)
@given(
    lengths=LENGTHS,
    world=st.integers(1, 3),
    batch_size=st.integers(1, 3),
    accumulation=st.integers(1, 3),
    seed=st.integers(0, 99),
    shuffle=st.booleans(),
)
def test_the_ranks_together_train_every_example_once_an_epoch(
    kind: str, lengths: list[int], world: int, batch_size: int, accumulation: int, seed: int, shuffle: bool
) -> None:
    ours = ranks(
        kind, lengths, world, batch_size=batch_size, accumulation=accumulation, seed=seed, shuffle=shuffle, num_epochs=2
    )
    assert len({one.total_steps for one in ours}) == 1
    for epoch in range(2):
        numbers = range(epoch * ours[0].steps_per_epoch, (epoch + 1) * ours[0].steps_per_epoch)
        steps = [one.step(number) for number in numbers for one in ours]
        assert all(len(step) <= accumulation for step in steps)
        assert all(micro for step in steps for micro in step)
        assert sorted(i for step in steps for i in seen_in(step, packed=ours[0].packed)) == list(range(len(lengths)))


@pytest.mark.parametrize("kind", KINDS)
@given(lengths=LENGTHS, world=st.integers(1, 2), seed=st.integers(0, 99), random=st.randoms())
def test_no_step_needs_the_step_before_it(kind: str, lengths: list[int], world: int, seed: int, random: Any) -> None:
    def steps(numbers: list[int]) -> dict[int, list[list[Any]]]:
        ours = ranks(kind, lengths, world, seed=seed, num_epochs=3)[-1]
        return {number: ours.step(number) for number in numbers}

    numbers = list(range(ranks(kind, lengths, world, seed=seed, num_epochs=3)[0].total_steps))
    in_order = steps(numbers)
    random.shuffle(numbers)
    assert steps(numbers) == in_order


def test_ranks_take_micro_batches_in_turn_and_the_last_may_get_none() -> None:
    """13 examples, 3 a micro-batch: five micro-batches, of which a step of 2 × 2 takes four."""
    one, other = (plan(13, 3, 2, shuffle=False, rank=rank, world=2) for rank in (0, 1))
    assert [one.step(n) for n in range(2)] == [[[0, 1, 2], [6, 7, 8]], [[12]]]
    assert [other.step(n) for n in range(2)] == [[[3, 4, 5], [9, 10, 11]], []]
    assert (one.micro_per_epoch, one.steps_per_epoch, other.steps_per_epoch) == (3, 2, 2)
    assert one.epoch_after(1) == pytest.approx(2 / 3)


def test_the_longest_come_together_as_in_transformers() -> None:
    from transformers.trainer_pt_utils import get_length_grouped_indices

    lengths = torch.randint(1, 500, (1000,), generator=torch.Generator().manual_seed(3)).tolist()
    ours = plan(1000, 2, 2, batching="length_grouped", lengths=lengths, num_epochs=2)
    for epoch in (0, 1):
        theirs = get_length_grouped_indices(lengths, 4, generator=torch.Generator().manual_seed(42 + epoch))
        steps = range(epoch * ours.steps_per_epoch, (epoch + 1) * ours.steps_per_epoch)
        assert [i for number in steps for micro in ours.step(number) for i in micro] == theirs


@given(LENGTHS, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_token_balanced_steps_hold_the_plain_examples(
    lengths: list[int], world: int, batch_size: int, accumulation: int, shuffle: bool
) -> None:
    changes = {"batch_size": batch_size, "accumulation": accumulation, "shuffle": shuffle}
    plain, ours = (ranks(kind, lengths, world, **changes) for kind in ("plain", "token_balanced"))
    assert plain[0].total_steps == ours[0].total_steps
    for number in range(plain[0].total_steps):
        theirs, here = ([i for one in every for m in one.step(number) for i in m] for every in (plain, ours))
        assert sorted(here) == sorted(theirs)


def test_without_shuffling_length_grouped_batches_keep_the_order_of_the_file() -> None:
    assert plan(4, batching="length_grouped", lengths=[1, 9, 2, 8], shuffle=False).step(0) == [[0, 1]]


def test_a_packed_step_is_micro_batches_of_blocks() -> None:
    """Room 10 in file order: 6 and 4, 5 and 5, 9, 8 and 2."""
    ours = plan(7, 2, 2, lengths=[6, 5, 4, 5, 9, 8, 2], block_len=10, shuffle=False)
    assert [ours.step(n) for n in range(ours.total_steps)] == [[[[0, 2], [1, 3]], [[4], [5, 6]]]]
    assert (ours.num_units, ours.micro_per_epoch, ours.total_steps) == (4, 2, 1)


def test_blocks_made_once_are_shuffled_as_their_rows_would_be() -> None:
    blocks = [[2, 1], [0], [4, 3], [5]]
    ours = plan(6, 1, blocks=blocks, num_epochs=2)
    order = [i for number in range(8) for micro in plan(4, 1, num_epochs=2).step(number) for i in micro]
    assert [ours.step(number) for number in range(8)] == [[[blocks[i]]] for i in order]


def test_blocks_are_not_trained_from_the_longest_example_on() -> None:
    """50 blocks of one long example and 25 of eight short ones, five a step."""
    lengths = [40] * 50 + [5] * 200
    ours = plan(250, 5, lengths=lengths, block_len=40)
    num_long = [sum(lengths[block[0]] == 40 for block in ours.step(number)[0]) for number in range(15)]
    assert sum(num_long) == 50
    assert num_long != [5] * 10 + [0] * 5


def test_part_of_a_packed_epoch_and_max_steps() -> None:
    lengths = [10] * 20
    assert plan(20, 2, lengths=lengths, block_len=20, num_epochs=1.5).total_steps == 8
    ours = plan(20, 2, lengths=lengths, block_len=20, max_steps=7)
    assert (ours.total_steps, ours.epoch_after(7)) == (7, pytest.approx(1.4))


def test_examples_are_counted_whether_packed_or_not() -> None:
    assert [plan(13, 3, 2).examples_after(n) for n in (0, 1, 2, 3, 4)] == [0, 6, 12, 13, 19]
    assert [plan(13, 3, 2, world=2).examples_after(n) for n in (1, 2, 3)] == [12, 13, 25]
    packed = plan(7, 2, lengths=[6, 5, 4, 5, 9, 8, 2], block_len=10, shuffle=False)
    assert [packed.examples_after(n) for n in (1, 2, 3)] == [4, 7, 11]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batching": "sorted"}, "'sorted' is no batching; there are plain, length_grouped, token_balanced"),
        ({"batching": "token_balanced"}, "0 lengths for 4 examples"),
        ({"block_len": 8}, "0 lengths for 4 examples"),
        ({"lengths": [1, 2]}, "2 lengths for 4 examples"),
        ({"lengths": [1] * 4, "block_len": 8, "batching": "length_grouped"}, "length_grouped has nothing to do"),
        ({"rank": 2, "world": 2}, "there is no rank 2 in a world of 2"),
    ],
)
def test_plans_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(4, **changes)
