"""Drops are kept in little room, and come out in order."""

from __future__ import annotations

from datakit.dedup.drops import EXACT, NEAR, Drop, Drops, merged


def test_what_goes_in_comes_out():
    drops = Drops()
    drops.extend([Drop(1, EXACT, 0, 1.0), Drop(5, NEAR, 2, 0.875)])
    drops.extend([])
    assert [*drops] == [Drop(1, EXACT, 0, 1.0), Drop(5, NEAR, 2, 0.875)]
    assert len(drops) == 2


def test_two_series_are_one_in_order_of_rows():
    one = [Drop(1, EXACT, 0, 1.0), Drop(9, EXACT, 0, 1.0)]
    other = [Drop(0, NEAR, 3, 0.5), Drop(4, NEAR, 3, 0.5)]
    assert [drop.at for drop in merged(one, other)] == [0, 1, 4, 9]
