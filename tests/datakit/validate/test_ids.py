"""Duplicate ids: each repeat is told with the first row that had it, whatever has been packed away since."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakit.validate import ids as module
from datakit.validate.ids import Ids, id_of

_ids = st.none() | st.integers(-3, 3) | st.sampled_from([2**63, 2**64 + 1, -(2**63), 0.5, True, "1", "a"])


_counting = st.builds(lambda start, count: list(range(start, start + count)), st.integers(-2, 12), st.integers(1, 5))


@given(st.lists(st.lists(_ids, min_size=1, max_size=6) | _counting, max_size=8))
def test_each_repeat_is_found_with_the_first_row_of_its_id(batches):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("RECENT", 3), ("LARGEST", 16), ("FILTER_BITS", 64)):
            patch.setattr(module, name, value)
        ids, first, place = Ids(), {}, 0
        for batch in batches:
            places = range(place, place + len(batch))
            place += len(batch)
            expected = {}
            for index, value in enumerate(batch):
                key = (type(value), value)
                if value is not None and first.setdefault(key, places[index]) != places[index]:
                    expected[index] = first[key]
            assert ids.add(batch, places) == expected
        assert len(ids) == len(first)


def test_the_id_of_a_row_is_its_field_id_or_underscore_id():
    assert [id_of(row) for row in ({"id": 1}, {"_id": "a"}, {"key": 1}, {"id": [1]}, {"id": None})] == [
        1,
        "a",
        None,
        None,
        None,
    ]


def test_ids_are_packed_into_16_bytes_each(monkeypatch):
    monkeypatch.setattr(module, "RECENT", 1000)
    ids = Ids()
    for start in range(0, 20_000, 500):
        ids.add(range(start, start + 500), range(start, start + 500))
    assert len(ids._recent) < 1000
    assert sum(piece.nbytes for pair in ids._packed for piece in pair) == 16 * (20_000 - len(ids._recent))
