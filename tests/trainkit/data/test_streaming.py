"""A stream gives each row once an epoch, mixed as datasets mixes streams, and goes on exactly where it stopped."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trainkit.data.streaming as streaming
from registry.dataset_places import find_dataset
from registry.datasets import DatasetEntry
from registry.errors import UsageError
from registry.records import ChatRecord
from registry.rows import read_rows
from registry.slices import RowSlice
from trainkit.data.mixing import STRATEGIES
from trainkit.data.streaming import Position, RowStream, StreamRow, shuffled, streamed_mix

SIZES = (30, 17, 5)
FAULTY = 4  # each so many'th row is none


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> tuple[DatasetEntry, ...]:
    """Three datasets of 30, 17 and 5 rows; among them rows that are no JSON, and rows that are no record."""
    folder = tmp_path_factory.mktemp("streams")
    found = []
    for number, size in enumerate(SIZES):
        lines = []
        for row in range(size):
            line = json.dumps({"instruction": f"{number}.{row}", "output": 7 if row % FAULTY == 1 else "a"})
            lines.append("{" if row % FAULTY == 3 else line)
        path = folder / f"{number}.jsonl"
        path.write_text("\n".join(lines) + "\n", "utf-8")
        found.append(find_dataset(str(path), folder))
    return tuple(found)


def key(row: StreamRow) -> tuple[int, int]:
    return row.dataset, row.number


def epochs(stream: RowStream, num_epochs: int) -> list[list[StreamRow]]:
    """The rows of the first epochs of a stream."""
    found: list[list[StreamRow]] = [[] for _ in range(num_epochs)]
    for position, row in stream.rows():
        if position.epoch == num_epochs:
            return found
        found[position.epoch].append(row)
    raise AssertionError("a stream has no end")


def told(rows: list[tuple[Position, StreamRow]]) -> list[Any]:
    """What can be compared of rows: faults are equal by what they say."""
    return [(at, row.dataset, row.file, row.number, row.record, str(row.fault), row.raw) for at, row in rows]


EVERY = Counter((number, row + 1) for number, size in enumerate(SIZES) for row in range(size))


# --- mixing -----------------------------------------------------------------------------------------------------------


def mixed(sizes: list[int], strategy: str, probs: list[float] | None, seed: int) -> list[tuple[int, int]]:
    readers = [lambda size=size: iter(range(size)) for size in sizes]
    return list(streamed_mix(readers, strategy, probs, np.random.default_rng(seed)))  # type: ignore[arg-type]


sizes_and_probs = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 9)), min_size=2, max_size=3)


@given(sizes_and_probs, st.sampled_from([s for s in STRATEGIES if s != "concat"]), st.booleans(), st.integers(0, 99))
def test_streams_are_mixed_as_datasets_mixes_them(
    given: list[tuple[int, int]], strategy: str, drawn: bool, seed: int
) -> None:
    datasets = pytest.importorskip("datasets")
    sizes, shares = [size for size, _ in given], [share for _, share in given]
    probs = [share / sum(shares) for share in shares] if drawn else None
    made = [
        datasets.Dataset.from_dict({"n": [[d, row] for row in range(size)]}).to_iterable_dataset()
        for d, size in enumerate(sizes)
    ]
    theirs = datasets.interleave_datasets(made, probs, seed=seed, stopping_strategy=STRATEGIES[strategy])
    assert mixed(sizes, strategy, probs, seed) == [tuple(row["n"]) for row in theirs]


def test_the_first_to_end_ends_the_mix_at_once() -> None:
    assert mixed([2, 3], "interleave_under", None, 0) == [(0, 0), (1, 0), (0, 1)]
    assert mixed([2, 3], "interleave_over", None, 0) == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 0), (1, 2)]
    assert mixed([2, 3], "interleave_once", None, 0) == [(0, 0), (1, 0), (0, 1), (1, 1), (1, 2)]
    assert mixed([2, 3], "concat", None, 0) == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]


def test_a_dataset_without_rows_cannot_be_mixed() -> None:
    with pytest.raises(UsageError, match="dataset 2 has no row"):
        mixed([2, 0], "interleave_over", None, 0)


# --- shuffling --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 60), st.integers(1, 40), st.integers(0, 99))
def test_a_buffer_loses_nothing_and_lets_no_row_out_before_it_could_be_in(size: int, buffer: int, seed: int) -> None:
    out = list(shuffled(iter(range(size)), buffer, np.random.default_rng(seed)))  # type: ignore[arg-type]
    assert sorted(out) == list(range(size))  # type: ignore[type-var]
    assert all(row < place + buffer for place, row in enumerate(out))  # type: ignore[operator]


def test_each_row_after_the_buffer_s_size_takes_the_place_of_one_that_goes_out() -> None:
    rng = np.random.default_rng(3)
    slots = rng.integers(0, 4, size=1000).tolist()
    out = list(shuffled(iter(range(7)), 4, np.random.default_rng(3)))  # type: ignore[arg-type]
    buffer = [0, 1, 2, 3]
    for place, row in enumerate((4, 5, 6)):
        assert out[place] == buffer[slots[place]]
        buffer[slots[place]] = row
    rng.shuffle(buffer)
    assert out[3:] == buffer


# --- epochs, ranks, resuming ------------------------------------------------------------------------------------------

STRATEGIES_THAT_TAKE_ALL = ["concat", "interleave_once"]
MIXES = [("concat", None), ("interleave_over", None), ("interleave_once", (0.5, 0.3, 0.2))]


@pytest.mark.parametrize("seed", [1, 42])
@pytest.mark.parametrize("strategy", STRATEGIES_THAT_TAKE_ALL)
def test_each_row_comes_once_an_epoch_and_each_epoch_in_another_order(
    entries: tuple[DatasetEntry, ...], strategy: str, seed: int
) -> None:
    found = epochs(RowStream(entries, strategy, seed=seed, buffer_size=8), 3)
    assert [Counter(map(key, rows)) for rows in found] == [EVERY] * 3
    assert len({tuple(map(key, rows)) for rows in found}) == 3
    again = epochs(RowStream(entries, strategy, seed=seed, buffer_size=8), 1)
    assert list(map(key, again[0])) == list(map(key, found[0]))


def test_without_shuffling_rows_come_in_the_order_of_the_files(entries: tuple[DatasetEntry, ...]) -> None:
    (first, second) = epochs(RowStream(entries, shuffle=False), 2)
    assert list(map(key, first)) == list(map(key, second)) == list(EVERY)


def test_a_row_brings_its_record_or_its_fault_with_its_place(entries: tuple[DatasetEntry, ...]) -> None:
    ((one, two, three, four, *_),) = epochs(RowStream(entries, shuffle=False), 1)
    assert isinstance(one.record, ChatRecord)
    assert isinstance(three.record, ChatRecord)
    assert one.record.messages[0].content == "0.0"
    assert (two.record, str(two.fault), two.raw) == (
        None, 'field "output": text belongs here, not a number (7)', {"instruction": "0.1", "output": 7},
    )  # fmt: skip
    assert (four.record, four.raw) == (None, "{")
    assert "not JSON" in str(four.fault)
    assert (four.file, four.number) == (entries[0].file_name, 4)


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize(("strategy", "probs"), MIXES)
@pytest.mark.parametrize("seed", [1, 42])
def test_the_ranks_together_see_what_one_alone_sees(
    entries: tuple[DatasetEntry, ...], strategy: str, probs: tuple[float, ...] | None, seed: int, world: int
) -> None:
    alone = RowStream(entries, strategy, probs, seed=seed, buffer_size=8)
    shares = [epochs(replace(alone, rank=rank, world=world), 2) for rank in range(world)]
    for epoch, rows in enumerate(epochs(alone, 2)):
        assert Counter(key(row) for share in shares for row in share[epoch]) == Counter(map(key, rows))
        assert [key(row) for row in rows[::world]] == [key(row) for row in shares[0][epoch]]


@pytest.mark.parametrize("num_held_out", [0, 6])
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(("strategy", "probs"), MIXES)
@pytest.mark.parametrize("seed", [1, 42])
def test_what_follows_a_stop_is_what_would_have_followed(
    entries: tuple[DatasetEntry, ...],
    strategy: str,
    probs: tuple[float, ...] | None,
    seed: int,
    rank: int,
    num_held_out: int,
) -> None:
    values: dict[str, Any] = {"seed": seed, "buffer_size": 8, "num_held_out": num_held_out, "rank": rank, "world": 2}
    whole = list(islice(RowStream(entries, strategy, probs, **values).rows(), 90))  # into the third epoch
    assert whole[-1][0].epoch > 0
    for stop in (1, 12, 23, 24, 46, 61):
        rest = RowStream(entries, strategy, probs, **values).rows(whole[stop - 1][0])
        assert told(list(islice(rest, 90 - stop))) == told(whole[stop:])


@pytest.mark.parametrize(("strategy", "probs"), MIXES)
def test_held_out_rows_are_the_first_and_are_trained_in_no_epoch(
    entries: tuple[DatasetEntry, ...], strategy: str, probs: tuple[float, ...] | None
) -> None:
    stream = RowStream(entries, strategy, probs, buffer_size=8, num_held_out=7)
    whole = epochs(replace(stream, num_held_out=0), 1)[0]
    held = stream.held_out()
    assert list(map(key, held)) == list(map(key, whole[:7]))
    assert list(map(key, replace(stream, rank=1, world=2).held_out())) == list(map(key, held))
    rest = epochs(stream, 3)
    assert all(key(row) not in set(map(key, held)) for rows in rest for row in rows)
    assert list(map(key, rest[0])) == [key(row) for row in whole[7:] if key(row) not in set(map(key, held))]


def test_no_more_is_held_than_the_buffer(entries: tuple[DatasetEntry, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    num_read = 0

    def counted(*arguments: Any, **options: Any) -> Iterator[Any]:
        nonlocal num_read
        for row in read_rows(*arguments, **options):
            num_read += 1
            yield row

    monkeypatch.setattr(streaming, "read_rows", counted)
    for strategy, ahead in (("concat", 1), ("interleave_once", 1 + len(SIZES))):
        num_read = 0
        for taken, _ in enumerate(islice(RowStream(entries, strategy, buffer_size=8).rows(), 40), 1):
            assert num_read <= taken + 8 + ahead


def test_each_dataset_may_give_only_its_first_rows_and_its_slices(entries: tuple[DatasetEntry, ...]) -> None:
    rows = epochs(RowStream(entries, shuffle=False, max_samples=2), 1)[0]
    assert list(map(key, rows)) == [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2)]
    sliced = replace(entries[0], slices=(RowSlice(3, 5), RowSlice(28, None)))
    rows = epochs(RowStream((sliced,), shuffle=False), 1)[0]
    assert [row.number for row in rows] == [4, 5, 29, 30]


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", [RowSlice(None, 10, percent=True), RowSlice(-5, None)])
def test_a_slice_that_needs_the_number_of_all_rows_is_refused(entries: tuple[DatasetEntry, ...], one: RowSlice) -> None:
    with pytest.raises(UsageError, match="needs the number of all rows, which a stream does not know"):
        RowStream((replace(entries[0], slices=(one,)),))


def test_samples_are_passed_over_with_a_word(
    entries: tuple[DatasetEntry, ...], caplog: pytest.LogCaptureFixture
) -> None:
    stream = RowStream((replace(entries[2], num_samples=3),), shuffle=False)
    assert "num_samples is passed over" in caplog.text
    assert len(epochs(stream, 1)[0]) == 5


def test_probabilities_are_looked_at_first(entries: tuple[DatasetEntry, ...]) -> None:
    with pytest.raises(UsageError, match="2 probabilities for 3 datasets"):
        RowStream(entries, "interleave_over", (0.5, 0.5))


def test_where_all_is_held_out_or_ranks_are_too_many_nothing_is_left(entries: tuple[DatasetEntry, ...]) -> None:
    with pytest.raises(UsageError, match=r"all rows are held out \(val_size 5\)"):
        next(RowStream(entries[2:], num_held_out=5).rows())
    with pytest.raises(UsageError, match="an epoch has 5 rows for 8 processes"):
        next(RowStream(entries[2:], rank=6, world=8).rows())


def test_under_strict_weights_are_passed_over_and_blank_lines_of_text_are_rows(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a", "loss": False}]
    (tmp_path / "a.jsonl").write_text(json.dumps({"conversations": turns}) + "\n", "utf-8")
    (tmp_path / "b.txt").write_text("one\n\ntwo\n", "utf-8")
    chats, texts = (find_dataset(str(tmp_path / name), tmp_path) for name in ("a.jsonl", "b.txt"))
    for strict, weight, num_texts in ((False, 0, 2), (True, 1, 3)):
        (row,) = epochs(RowStream((chats,), strict=strict), 1)[0]
        assert isinstance(row.record, ChatRecord)
        assert row.record.messages[1].weight == weight
        assert len(epochs(RowStream((texts,), strict=strict), 1)[0]) == num_texts
