"""Lines into a random order: every order equally likely, the same for the same seed, in memory that has a bound."""

from __future__ import annotations

import errno
import os
import tracemalloc
from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakit import shuffle
from datakit.shuffle import Shuffle

LINES = [b"%d" % i * (i % 20 + 1) for i in range(1, 200)]


def shuffled(lines, seed=0, **options):
    with Shuffle(seed, **options) as mixer:
        for line in lines:
            mixer.add(line)
        return list(mixer.lines())


def test_every_line_comes_back_once_in_another_order():
    found = shuffled(LINES)
    assert sorted(found) == sorted(LINES)
    assert found != LINES


def test_a_seed_is_an_order_and_another_seed_another():
    assert shuffled(LINES, 7) == shuffled(LINES, 7) != shuffled(LINES, 8)


@given(st.lists(st.binary(max_size=8).map(lambda b: b.replace(b"\n", b"")), max_size=60), st.integers(1, 4000))
def test_what_fits_in_memory_changes_no_order(lines, window):
    assert shuffled(lines, 3, window=window) == shuffled(lines, 3)


@pytest.mark.parametrize("window", [400, 3000, 10**6], ids=["spills all the time", "spills", "all in memory"])
@pytest.mark.parametrize("limit", [0, 10, 5000])
def test_a_sample_is_the_beginning_of_the_order(window, limit):
    assert shuffled(LINES, 1, limit=limit, window=window) == shuffled(LINES, 1)[:limit]


def test_a_file_too_large_for_memory_is_scattered_once_more(monkeypatch):
    levels = Counter()
    scatter = shuffle._scatter
    monkeypatch.setattr(shuffle, "_scatter", lambda *a, level: levels.update([level]) or scatter(*a, level=level))
    monkeypatch.setattr(shuffle, "BUCKETS", 2)
    monkeypatch.setattr(shuffle, "_BUCKET_BITS", 1)
    assert shuffled(LINES, 5, window=1_000) == shuffled(LINES, 5)
    assert max(levels) >= 3


def test_every_order_is_equally_likely():
    """4 lines, 24 orders, 2,400 draws: chi-squared with 23 degrees of freedom is below 50 with p = 0.999."""
    counts = Counter(tuple(shuffled([b"a", b"b", b"c", b"d"], seed)) for seed in range(2400))
    assert len(counts) == len(list(permutations("abcd")))
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 50


def test_memory_holds_no_more_than_the_window():
    lines = [b"x" * 200] * 20_000  # 4 MB, with what Python adds 5.6
    tracemalloc.start()
    try:
        with Shuffle(0, window=500_000) as mixer:
            for line in lines:
                mixer.add(line)
            buffers = shuffle.BUCKETS * shuffle.BUFFER
            assert sum(1 for _ in mixer.lines()) == len(lines)
            assert tracemalloc.get_traced_memory()[1] < 3 * 500_000 + buffers
    finally:
        tracemalloc.stop()


def test_nothing_is_left_in_the_folder(tmp_path):
    assert len(shuffled(LINES, folder=tmp_path, window=3000)) == len(LINES)
    with Shuffle(0, tmp_path, window=3000) as mixer:
        for line in LINES:
            mixer.add(line)
    with pytest.raises(ValueError, match="closed file"):
        next(mixer.lines())
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_the_systems_own_error(monkeypatch):
    def full(self, lines):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shuffle._Bucket, "write", full)
    with pytest.raises(OSError, match="No space left"):
        shuffled(LINES, window=100)
