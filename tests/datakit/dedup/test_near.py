"""Near rows found by their bands and confirmed on their n-grams; of each group the first row stays."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from datakit.dedup import buckets as bucket_module
from datakit.dedup import near as near_module
from datakit.dedup.bands import band_keys, bands_for
from datakit.dedup.buckets import make_buckets
from datakit.dedup.near import NearNotes
from datakit.dedup.spool import Spool, jaccard, open_spool
from datakit.dedup.tokens import Grams
from registry.errors import StoppedError


def grams_of_sets(*sets: range | list[int]) -> Grams:
    hashes = [hash_ * 0x9E3779B97F4A7C15 % (1 << 64) for one in sets for hash_ in one]
    return Grams(np.array(hashes, np.uint64), np.cumsum([0, *map(len, sets)]))


def decided(threshold: float, *sets: range | list[int], num_kept: int = 0) -> list[tuple[int, int, float]]:
    with open_spool(None) as spool:
        notes = NearNotes(threshold, bands_for(threshold), spool)
        grams = grams_of_sets(*sets)
        notes.add(range(len(sets)), grams, band_keys(grams, notes.bands))
        return [(pair.dropped, pair.kept, round(pair.similarity, 3)) for pair in notes.decide(num_kept)]


def test_a_row_is_dropped_for_an_earlier_one_that_is_as_similar():
    assert decided(0.8, range(100), range(200, 300), range(5, 105)) == [(2, 0, 0.905)]


def test_the_similarity_is_counted_and_not_estimated():
    assert decided(0.8, range(90), range(10, 100)) == [(1, 0, 0.8)]
    assert decided(0.8, range(89), range(10, 99)) == []  # 79 of 99


def test_a_row_is_never_dropped_for_one_that_is_dropped_itself():
    """0 and 1 are near, and 1 and 2, but 0 and 2 are not: 1 goes, 2 stays."""
    assert decided(0.8, range(100), range(10, 110), range(20, 120)) == [(1, 0, 0.818)]


def test_of_many_that_are_near_to_each_other_the_first_stays():
    rows = [[*range(100), 1000 + n] for n in range(300)]
    assert [(dropped, kept) for dropped, kept, _ in decided(0.8, *rows)] == [(n, 0) for n in range(1, 300)]


def test_rows_of_other_files_all_stay():
    assert decided(0.8, range(50), range(50), range(50), num_kept=2) == [(2, 0, 1.0)]


def test_what_was_not_compared_is_counted(monkeypatch):
    monkeypatch.setattr(near_module, "MOST_COMPARED", 1)
    with open_spool(None) as spool:
        notes = NearNotes(0.9, bands_for(0.5), spool)
        grams = grams_of_sets(range(100), range(20, 120), range(40, 140))
        notes.add(range(3), grams, band_keys(grams, notes.bands))
        assert [*notes.decide(0)] == []
        assert notes.num_hurried == 1


def test_a_bucket_of_many_rows_that_stay_offers_its_first_and_its_last_ones(monkeypatch):
    monkeypatch.setattr(bucket_module, "MOST_OF_BUCKET", 4)
    buckets = make_buckets([[np.zeros(8, np.uint64)]], 8)
    for row in range(7):
        buckets.keep(row)
    assert buckets.candidates(7) == ({0: 1, 1: 1, 5: 1, 6: 1}, True)


def test_rows_alone_in_all_their_buckets_are_in_none():
    buckets = make_buckets(
        [[np.array([5, 6], np.uint64), np.array([5], np.uint64)], [np.arange(3, dtype=np.uint64)]], 3
    )
    assert buckets.starts.tolist() == [0, 1, 1, 2]


def test_of_no_rows_none_is_near():
    with open_spool(None) as spool:
        assert [*NearNotes(0.8, bands_for(0.8), spool).decide(0)] == []


def test_the_spool_gives_back_each_row_sorted_and_without_repeats(tmp_path):
    with open_spool(tmp_path / "deeper") as spool:
        spool.add(Grams(np.array([3, 1, 3, 7], np.uint64), np.array([0, 3, 3, 4])))
        spool.add(Grams(np.array([9], np.uint64), np.array([0, 1])))
        spool.flush()
        assert [spool.of(row).tolist() for row in range(4)] == [[1, 3], [], [7], [9]]
        assert (len(spool), spool.num_bytes) == (4, 40)
        assert [*(tmp_path / "deeper").iterdir()] == []


def test_similarity_of_sets():
    assert jaccard(np.array([1, 2, 3], np.uint64), np.array([2, 3, 4, 5], np.uint64)) == 2 / 5
    assert jaccard(np.array([], np.uint64), np.array([1], np.uint64)) == 0
    assert jaccard(np.array([], np.uint64), np.array([], np.uint64)) == 0


def test_a_full_disk_can_be_mended_and_is_no_fault_of_ours():
    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        flush = write

    spool = Spool(Full())  # type: ignore[arg-type]
    with pytest.raises(StoppedError, match="disk is full"):
        spool.add(Grams(np.array([3], np.uint64), np.array([0, 1])))


def test_n_grams_read_back_are_kept_up_to_a_number_of_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("datakit.dedup.spool.KEPT_BYTES", 100)
    with open_spool(tmp_path) as spool:
        spool.add(grams_of_sets(range(10), range(5), range(20), range(3)))
        spool.flush()
        for row, size in enumerate((10, 5, 20, 3)):
            assert len(spool.of(row)) == size
            assert sum(kept.nbytes for kept in spool._kept.values()) == spool._kept_bytes
            assert spool._kept_bytes <= 100 or len(spool._kept) == 1
        assert [*spool._kept] == [3]
        assert spool.of(3) is spool.of(3)
