"""Steps of a stream: full ones, the same from wherever one begins, packed or not."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from registry.dataset_places import find_dataset
from registry.encode import Example
from registry.errors import RowFault, UsageError
from trainkit.data.stream_steps import StepPosition, StreamSteps
from trainkit.data.streaming import RowStream, StreamRow

NUM_ROWS = 50
TOO_LONG, BROKEN = 7, 11  # rows (from 0) that have no example: by the encoder, and by themselves


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """``streams(rank=0, …)``: a stream of 50 rows, two of which cannot be trained on."""
    folder = tmp_path_factory.mktemp("steps")
    lines = [
        json.dumps({"instruction": str(n), "output": 1 if n == BROKEN else "a" * (n % 9 + 1)}) for n in range(NUM_ROWS)
    ]
    path = folder / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    entry = find_dataset(str(path), folder)
    return lambda **values: RowStream((entry,), buffer_size=16, **values)


def encode(records: Sequence[Any]) -> list[Example | RowFault]:
    """An example of n % 9 + 2 tokens, which are all the row's number; row 7 has none."""
    found: list[Example | RowFault] = []
    for record in records:
        number = int(record.messages[0].content)
        ids = array("i", [number] * (len(record.messages[1].content) + 1))
        found.append(RowFault("answer", "too long") if number == TOO_LONG else Example(ids, ids))
    return found


def steps_of(stream: RowStream, **values: Any) -> StreamSteps:
    return StreamSteps(stream, encode, **{"batch_size": 3, "accumulation": 2, "window": 10, **values})


def numbers(step: list[list[Any]]) -> list[list[Any]]:
    """The row number of each example, blocks as lists of them."""
    return [[[e.ids[0] for e in unit] if isinstance(unit, list) else unit.ids[0] for unit in micro] for micro in step]


def test_steps_are_full_and_go_through_the_epochs(streams: Any) -> None:
    steps = steps_of(streams(shuffle=False))
    found = [numbers(steps.step(n)) for n in range(17)]
    assert all([len(micro) for micro in step] == [3, 3] for step in found)
    trained = [n for n in range(NUM_ROWS) if n not in (TOO_LONG, BROKEN)]
    assert list(chain.from_iterable(chain.from_iterable(found))) == (trained * 3)[: 17 * 6]


@pytest.mark.parametrize("block_len", [0, 20])
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("seed", [1, 42])
def test_a_step_is_the_same_from_wherever_one_begins(streams: Any, seed: int, rank: int, block_len: int) -> None:
    def made() -> StreamSteps:
        return steps_of(streams(seed=seed, rank=rank, world=2, num_held_out=3), block_len=block_len)

    steps, kept, found = made(), [], []
    for number in range(12):
        kept.append(steps.position)
        found.append(numbers(steps.step(number)))
    assert steps.epoch > 0
    for number in (0, 1, 5, 9, 11):
        assert numbers(made().step(number)) == found[number]  # by way of all steps before
        again = made()
        again.go_to(number, kept[number])
        assert [numbers(again.step(n)) for n in range(number, 12)] == found[number:]
    assert numbers(steps.step(3)) == found[3]  # back again


def test_the_order_of_unpacked_rows_does_not_hang_on_the_window(streams: Any) -> None:
    one, other = (steps_of(streams(), window=window) for window in (1, 64))
    assert [numbers(one.step(n)) for n in range(15)] == [numbers(other.step(n)) for n in range(15)]


@pytest.mark.parametrize("shuffle", [True, False])
def test_packed_examples_come_once_an_epoch_in_blocks_that_hold_them(streams: Any, shuffle: bool) -> None:
    steps = steps_of(streams(shuffle=shuffle), block_len=20, batch_size=1, accumulation=1, window=16)
    seen: Counter[int] = Counter()
    epochs = []
    for number in range(200):
        before = steps.position.epoch
        ((block,),) = steps.step(number)
        assert isinstance(block, list)
        assert 0 < sum(len(example.ids) for example in block) <= 20
        seen.update(example.ids[0] for example in block)
        if steps.position.taken == NUM_ROWS and steps.position.given == 0:
            epochs.append(seen)
            seen = Counter()
        if before >= 2 and len(epochs) >= 2:
            break
    assert epochs[:2] == [Counter(n for n in range(NUM_ROWS) if n not in (TOO_LONG, BROKEN))] * 2


def test_two_ranks_train_each_row_once_an_epoch(streams: Any) -> None:
    seen: Counter[int] = Counter()
    for rank in (0, 1):
        steps = steps_of(streams(rank=rank, world=2), batch_size=1, accumulation=1)
        number = 0
        while not (steps.position.taken == NUM_ROWS - 1 + rank and steps.position.given == 0):
            seen.update(numbers(steps.step(number))[0])
            number += 1
    assert seen == Counter(n for n in range(NUM_ROWS) if n not in (TOO_LONG, BROKEN))


def test_rows_that_are_not_trained_on_are_told_once(streams: Any) -> None:
    told: list[StreamRow] = []
    steps = steps_of(streams(), on_fault=told.append)
    for number in range(30):
        steps.step(number)
    assert sorted((row.number, str(row.fault)) for row in told) == [
        (TOO_LONG + 1, 'field "answer": too long'),
        (BROKEN + 1, 'field "output": text belongs here, not a number (1)'),
    ]
    assert Path(told[0].file).name == "rows.jsonl"


def test_a_window_that_is_gone_on_with_tells_nothing_again(streams: Any) -> None:
    told: list[StreamRow] = []
    steps = steps_of(streams(shuffle=False), window=64)
    steps.step(0)
    assert steps.position == StepPosition(0, 0, 6)
    again = steps_of(streams(shuffle=False), window=64, on_fault=told.append)
    again.go_to(1, steps.position)
    again.step(1)
    assert told == []


def test_an_epoch_without_an_example_is_refused(streams: Any) -> None:
    def none(records: Sequence[Any]) -> list[RowFault]:
        return [RowFault("answer", "no") for _ in records]

    steps = StreamSteps(streams(), none, batch_size=1, window=10)
    with pytest.raises(UsageError, match="not one row of an epoch can be trained on"):
        steps.step(0)
