"""The order of mixed datasets is that of the datasets library, row by row, for the same seed."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import UsageError
from registry.slices import RowSlice
from tests.conftest import SHARED, needs_shared
from trainkit.data.mixing import STRATEGIES, check_probs, dataset_order, mixed_order, sampled_rows, split_order

INTERLEAVED = [name for name, ending in STRATEGIES.items() if ending]


def pairs(order: tuple[Any, Any]) -> list[tuple[int, int]]:
    numbers, rows = order
    return list(zip(numbers.tolist(), rows.tolist(), strict=True))


def theirs(sizes: list[int], strategy: str, probs: list[float] | None, seed: int) -> list[tuple[int, int]]:
    datasets = pytest.importorskip("datasets")
    made = [datasets.Dataset.from_dict({"n": [[d, row] for row in range(size)]}) for d, size in enumerate(sizes)]
    mixed = datasets.interleave_datasets(made, probabilities=probs, seed=seed, stopping_strategy=STRATEGIES[strategy])
    return [tuple(pair) for pair in mixed["n"]]


def test_concatenated_datasets_follow_one_another() -> None:
    assert pairs(mixed_order([2, 0, 3], "concat")) == [(0, 0), (0, 1), (2, 0), (2, 1), (2, 2)]
    assert pairs(mixed_order([], "concat")) == []


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("interleave_under", [(0, 0), (1, 0), (0, 1), (1, 1)]),
        ("interleave_over", [(0, 0), (1, 0), (0, 1), (1, 1), (0, 0), (1, 2)]),
        ("interleave_once", [(0, 0), (1, 0), (0, 1), (1, 1), (1, 2)]),
    ],
)
def test_without_probabilities_datasets_take_turns(strategy: str, expected: list[tuple[int, int]]) -> None:
    assert pairs(mixed_order([2, 3], strategy)) == expected


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_dataset_alone_stays_as_it_is(strategy: str) -> None:
    assert pairs(mixed_order([3], strategy)) == [(0, 0), (0, 1), (0, 2)]


sizes_and_probs = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 9)), min_size=2, max_size=4)


@given(sizes_and_probs, st.sampled_from(INTERLEAVED), st.booleans(), st.integers(0, 2**31))
def test_the_order_is_theirs(given: list[tuple[int, int]], strategy: str, drawn: bool, seed: int) -> None:
    sizes, shares = [size for size, _ in given], [share for _, share in given]
    probs = [share / sum(shares) for share in shares] if drawn else None
    assert pairs(mixed_order(sizes, strategy, probs, seed)) == theirs(sizes, strategy, probs, seed)


@pytest.mark.parametrize("strategy", INTERLEAVED)
@pytest.mark.parametrize("seed", [0, 7, 42])
def test_the_order_is_theirs_beyond_one_block_of_draws(strategy: str, seed: int) -> None:
    sizes, probs = [1500, 900, 30], [0.5, 0.45, 0.05]
    assert pairs(mixed_order(sizes, strategy, probs, seed)) == theirs(sizes, strategy, probs, seed)


def test_a_dataset_of_probability_0_is_never_drawn_where_the_first_to_end_ends_all() -> None:
    found = pairs(mixed_order([5, 0, 9], "interleave_under", [0.5, 0.0, 0.5], 3))
    assert found == theirs([5, 0, 9], "interleave_under", [0.5, 0.0, 0.5], 3)
    assert not any(number == 1 for number, _ in found)


@given(sizes_and_probs, st.booleans(), st.integers(0, 2**31))
def test_each_row_comes_once_at_least_once_or_at_most_once(
    given: list[tuple[int, int]], drawn: bool, seed: int
) -> None:
    sizes, shares = [size for size, _ in given], [share for _, share in given]
    probs = [share / sum(shares) for share in shares] if drawn else None
    every = {(number, row) for number, size in enumerate(sizes) for row in range(size)}
    once = Counter(pairs(mixed_order(sizes, "interleave_once", probs, seed)))
    assert once == Counter(every)
    assert set(pairs(mixed_order(sizes, "interleave_over", probs, seed))) == every
    under = Counter(pairs(mixed_order(sizes, "interleave_under", probs, seed)))
    assert max(under.values()) == 1
    taken = Counter(number for number, _ in under)
    assert any(taken[number] == size for number, size in enumerate(sizes))


@needs_shared
@pytest.mark.parametrize("name", ["sft-mix-over", "sft-mix-under"])
def test_a_mix_has_as_many_rows_as_the_recorded_one_and_repeats_the_same_places(name: str) -> None:
    first, *examples = (SHARED / "goldens" / f"{name}.jsonl").read_text("utf-8").splitlines()
    told = json.loads(first)
    probs = [float(p) for p in told["args"]["interleave_probs"].split(",")]
    sizes = [told["args"]["max_samples"]] * 2
    order = pairs(mixed_order(sizes, told["args"]["mix_strategy"], probs, told["args"]["seed"]))
    assert len(order) == told["rows"] == len(examples)
    shas = [json.loads(line)["sha"] for line in examples]
    by_row: dict[tuple[int, int], set[str]] = {}
    for row, sha in zip(order, shas, strict=True):
        by_row.setdefault(row, set()).add(sha)
    assert all(len(seen) == 1 for seen in by_row.values())
    assert len({sha for seen in by_row.values() for sha in seen}) == len(by_row)


# --- probabilities ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probs", "strategy", "told"),
    [
        ([0.5], "interleave_under", "interleave_probs: 1 probabilities for 2 datasets\n  Give one for each dataset."),
        ([0.5, -0.5], "interleave_under", "-0.5 is no probability"),
        ([0.5, float("nan")], "interleave_under", "nan is no probability"),
        ([0.5, 0.5], "concat", "concat draws nothing, so it takes no probabilities"),
        (
            [0.3, 0.3],
            "interleave_under",
            "the probabilities add up to 0.6, not to 1\n  In the same proportion:  interleave_probs: 0.5,0.5",
        ),
        ([2, 1], "interleave_under", "add up to 3, not to 1\n  In the same proportion:  interleave_probs: 0.67,0.33"),
        ([0, 0], "interleave_under", "add up to 0, not to 1\n  One must be above 0."),
        ([0, 1], "interleave_over", "dataset 1 has the probability 0, and interleave_over goes on until every dataset"),
        ([1, 0], "interleave_once", "dataset 2 has the probability 0, and interleave_once goes on"),
    ],
)
def test_probabilities_that_are_none_are_refused(probs: list[float], strategy: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_probs(probs, 2, strategy=strategy)
    assert told in str(caught.value)


@given(st.lists(st.floats(0.001, 1000), min_size=2, max_size=5))
def test_the_probabilities_that_are_proposed_are_right(probs: list[float]) -> None:
    try:
        check_probs(probs, len(probs))
    except UsageError as error:
        proposed = [float(text) for text in str(error.mend).rpartition(" ")[2].split(",")]
        check_probs(proposed, len(probs))
        total = sum(probs)
        assert proposed == pytest.approx([p / total for p in probs], rel=0.02)


@pytest.mark.parametrize("probs", [None, [0.5, 0.5]])
@pytest.mark.parametrize("strategy", INTERLEAVED)
def test_a_dataset_of_no_rows_cannot_be_interleaved(strategy: str, probs: list[float] | None) -> None:
    with pytest.raises(UsageError, match="dataset 2 has no row, so there is nothing to interleave"):
        mixed_order([3, 0], strategy, probs)


# --- rows of one dataset ----------------------------------------------------------------------------------------------


@given(st.integers(1, 50), st.integers(1, 120), st.integers(0, 2**31))
def test_samples_are_a_permutation_and_then_draws_from_the_global_generator(size: int, wanted: int, seed: int) -> None:
    found = sampled_rows(size, wanted, np.random.RandomState(seed)).tolist()
    np.random.seed(seed)
    first = np.random.permutation(size)[:wanted].tolist()
    more = np.random.choice(size, wanted - len(first)).tolist() if wanted > len(first) else []
    assert found == first + more
    assert len(found) == wanted
    assert set(found) <= set(range(size))
    assert wanted < size or set(found) == set(range(size))


def test_datasets_of_a_run_draw_one_after_the_other() -> None:
    rng = np.random.RandomState(42)
    # recorded from numpy 2.4 as np.random.seed(42); np.random.permutation(6)[:3]; np.random.permutation(4)[:4]
    np.random.seed(42)
    expected = [np.random.permutation(6)[:3].tolist(), np.random.permutation(4).tolist()]
    found = [dataset_order(6, rng, num_samples=3).tolist(), dataset_order(4, rng, num_samples=4).tolist()]
    assert found == expected
    assert found[0] == [0, 1, 5]


def test_a_run_takes_the_first_of_what_was_drawn_from_a_slice() -> None:
    rng = np.random.RandomState(1)
    rows = dataset_order(100, rng, slices=(RowSlice(50, None), RowSlice(0, 10, percent=True)), num_samples=80)
    assert len(rows) == 80
    assert set(rows.tolist()) == {*range(50, 100), *range(10)}
    again = np.random.RandomState(1)
    first = dataset_order(
        100, again, slices=(RowSlice(50, None), RowSlice(0, 10, percent=True)), num_samples=80, max_samples=7
    )
    assert first.tolist() == rows[:7].tolist()
    assert dataset_order(5, rng, max_samples=9).tolist() == [0, 1, 2, 3, 4]


def test_a_slice_without_rows_and_a_draw_from_none_are_refused() -> None:
    rng = np.random.RandomState(0)
    with pytest.raises(UsageError, match=r"the slice \[:10%\] of 3 rows holds none"):
        dataset_order(3, rng, slices=(RowSlice(None, 10, percent=True),))
    with pytest.raises(UsageError, match="num_samples: 5: there is no row to draw from"):
        dataset_order(0, rng, num_samples=5)


@pytest.mark.parametrize("seed", [0, 42, 1234])
@pytest.mark.parametrize(("size", "val_size"), [(10, 0.2), (10, 0.25), (11, 3), (7, 0.01), (300, 0.1), (2, 1)])
def test_rows_are_split_as_datasets_splits_them(size: int, val_size: float, seed: int) -> None:
    datasets = pytest.importorskip("datasets")
    parts = datasets.Dataset.from_dict({"n": list(range(size))}).train_test_split(test_size=val_size, seed=seed)
    train, held_out = split_order(size, val_size, seed)
    assert (train.tolist(), held_out.tolist()) == (parts["train"]["n"][:], parts["test"]["n"][:])


@given(st.integers(2, 60), st.integers(0, 1000), st.data())
def test_a_split_loses_nothing_and_doubles_nothing(size: int, seed: int, data: st.DataObject) -> None:
    val_size = data.draw(st.one_of(st.integers(1, size - 1), st.floats(0.01, 0.49)))
    train, held_out = split_order(size, val_size, seed)
    assert Counter([*train.tolist(), *held_out.tolist()]) == Counter(range(size))


@pytest.mark.parametrize("val_size", [10, 12, 0.99])
def test_a_split_that_leaves_one_side_empty_is_refused(val_size: float) -> None:
    with pytest.raises(UsageError, match="leaves nothing on one side"):
        split_order(10, val_size, 0)


def test_a_mix_that_would_hardly_ever_end_is_refused() -> None:
    with pytest.raises(UsageError, match="draws would pass until dataset 1 is through"):
        mixed_order([20, 100], "interleave_over", [1e-9, 1 - 1e-9], 0)
    numbers, _ = mixed_order([20, 100], "interleave_under", [1e-9, 1 - 1e-9], 0)
    assert len(numbers) <= 120
