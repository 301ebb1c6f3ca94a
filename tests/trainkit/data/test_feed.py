"""A run's data: numbers of a plan become batches, and held-out examples are numbered after the trained ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from registry.encode import IGNORE
from trainkit.config import load_config
from trainkit.data.feed import Data, load_data
from trainkit.preflight import check_places


@pytest.fixture
def data(settings: Callable[..., dict[str, Any]]) -> Callable[..., Data]:
    """``data(packing=True)``: the 24 questions as a run's data."""

    def load(*, rank: int = 0, world: int = 1, **keys: Any) -> Data:
        config = load_config(settings(**keys))
        return load_data(config, check_places(config), rank=rank, world=world)

    return load


def test_a_batch_holds_the_examples_of_its_numbers_padded(data: Callable[..., Data]) -> None:
    mine = data()
    (numbers,) = mine.plan.step(0)
    batch = mine.batch_of(numbers)
    assert batch.indices == tuple(numbers)
    for ids, mask, labels, number in zip(batch.input_ids, batch.attention_mask, batch.labels, numbers, strict=True):
        example = mine.examples.train[number]
        assert ids[mask == 1].tolist() == list(example.ids)
        assert labels[mask == 1].tolist() == list(example.labels)
        assert set(ids[mask == 0].tolist()) <= {mine.pad_id}
        assert set(labels[mask == 0].tolist()) <= {IGNORE}


def test_a_packed_batch_holds_its_blocks_apart(data: Callable[..., Data]) -> None:
    mine = data(packing=True, cutoff_len=128)
    (blocks,) = mine.plan.step(0)
    batch = mine.batch_of(blocks)
    assert batch.attention_mask is None
    assert batch.input_ids.shape == (len(blocks), 128)
    assert batch.indices == tuple(number for block in blocks for number in block)
    for ids, positions, labels, block in zip(batch.input_ids, batch.position_ids, batch.labels, blocks, strict=True):
        examples = [mine.examples.train[number] for number in block]
        joined = [i for example in examples for i in example.ids]
        assert ids[: len(joined)].tolist() == joined
        assert positions[: len(joined)].tolist() == [at for example in examples for at in range(len(example.ids))]
        assert set(labels[len(joined) :].tolist()) <= {IGNORE}
        firsts = torch.nonzero(positions[: len(joined)] == 0).flatten()
        assert set(labels[firsts].tolist()) == {IGNORE}


def test_held_out_examples_come_after_the_trained_ones_and_are_never_packed(data: Callable[..., Data]) -> None:
    mine = data(val_size=5, packing=True)
    assert (len(mine.examples.train), len(mine.examples.eval), mine.plan.num_examples) == (19, 5, 19)
    (batches,) = [list(batches) for batches in mine.eval_batches(2).values()]
    assert [batch.indices for batch in batches] == [(19, 20), (21, 22), (23,)]
    assert all(batch.position_ids is None for batch in batches)
    assert batches[2].input_ids[0][: batches[2].num_tokens].tolist() == list(mine.examples.evals[""][4].ids)


def test_each_set_to_evaluate_on_has_its_name_and_its_own_numbers(data: Callable[..., Data]) -> None:
    keys = {"dataset": "pages", "eval_dataset": "questions,pages", "stage": "pt", "packing": False}
    both = data(**keys, eval_on_each_dataset=True)
    found = {name: [batch.indices for batch in batches] for name, batches in both.eval_batches(24).items()}
    assert found == {"questions": [tuple(range(12, 36))], "pages": [tuple(range(36, 48))]}
    together = data(**keys).eval_batches(24)
    assert [batch.indices for batch in together[""]] == [tuple(range(12, 36)), tuple(range(36, 48))]


def test_a_digest_tells_other_data_and_nothing_else(data: Callable[..., Data]) -> None:
    first = data().digest()
    assert data(learning_rate=0.5, per_device_train_batch_size=1).digest() == first
    assert data(rank=1, world=2).digest() == first
    others = [
        data(cutoff_len=32),
        data(val_size=3),
        data(max_samples=9),
        data(special_text="keep"),
        data(seed=7, val_size=3),
    ]
    assert len({first, *(other.digest() for other in others)}) == 1 + len(others)
