"""LLaMA-Factory's map batches, as the datasets library cuts them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainkit.data.windows import map_windows


def test_batches_follow_one_another_and_begin_anew_in_each_share():
    assert map_windows(7, 3, None).tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert map_windows(7, 3, 2).tolist() == [0, 0, 0, 1, 2, 2, 2]
    assert map_windows(2, 3, 16).tolist() == [0, 1]
    assert map_windows(0, 3, 2).tolist() == []


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 9))
def test_they_are_those_of_the_library(num_rows, batch_size, num_proc):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"n": list(range(num_rows))})
    shards = min(num_proc, num_rows)
    batches = []
    for index in range(shards):
        share = rows.shard(num_shards=shards, index=index, contiguous=True)["n"][:]
        batches += [share[at : at + batch_size] for at in range(0, len(share), batch_size)]
    windows = map_windows(num_rows, batch_size, num_proc).tolist()
    assert [[n for n in range(num_rows) if windows[n] == window] for window in range(len(batches))] == batches
