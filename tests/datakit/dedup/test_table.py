"""The hash table of keys finds who came first, whatever the order, and however full it is."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datakit.dedup import table
from datakit.dedup.table import SLOT_BYTES, KeyTable


def first_by_dict(keys: np.ndarray) -> list[int]:
    seen: dict[bytes, int] = {}
    return [seen.setdefault(key.tobytes(), place) for place, key in enumerate(keys)]


def places_of(keys: np.ndarray, cuts: list[int]) -> tuple[list[int], KeyTable]:
    found: list[int] = []
    keeper = KeyTable()
    ends = sorted({*(cut % (len(keys) + 1) for cut in cuts), len(keys)})
    start = 0
    for end in ends:
        found += keeper.first_places(keys[start:end], np.arange(start, end)).tolist()
        start = end
    return found, keeper


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=60), st.lists(st.integers(0, 60)))
def test_keys_that_fall_into_one_slot_are_told_apart(pairs, cuts):
    keys = np.array([(low << 60 | 7, high) for low, high in pairs], np.uint64).reshape(-1, 2)
    found, keeper = places_of(keys, cuts)
    assert found == first_by_dict(keys)
    assert len(keeper) == len(set(pairs))


def test_it_grows_while_keys_come_and_finds_all_of_them(monkeypatch):
    monkeypatch.setattr(table, "FIRST_SLOTS", 16)
    rng = np.random.default_rng(0)
    different = rng.integers(0, 1 << 64, (3000, 2), np.uint64)
    keys = different[rng.integers(0, 3000, 9000)]
    found, keeper = places_of(keys, list(range(0, 9000, 700)))
    assert found == first_by_dict(keys)
    assert len(keeper) == len(np.unique(keys, axis=0))
    assert keeper.num_bytes == 8192 * SLOT_BYTES


def test_a_key_of_zeros_is_not_taken_for_a_free_slot():
    keys = np.zeros((3, 2), np.uint64)
    assert KeyTable().first_places(keys, np.arange(5, 8)).tolist() == [5, 5, 5]


def test_the_last_slot_is_followed_by_the_first(monkeypatch):
    monkeypatch.setattr(table, "FIRST_SLOTS", 16)
    keys = np.array([(15, n) for n in range(8)], np.uint64)
    keeper = KeyTable()
    assert keeper.first_places(keys, np.arange(8)).tolist() == [*range(8)]
    assert keeper.first_places(keys[::-1], np.arange(8, 16)).tolist() == [*range(8)][::-1]
