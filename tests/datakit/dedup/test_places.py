"""From a place back to the file and the number of the row."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from datakit.dedup.places import Places


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sets(st.integers(1, 30)).map(sorted)), max_size=8))
def test_each_place_leads_back_to_its_row(batches):
    places = Places()
    expected = []
    for file, numbers in batches:
        assert places.add(file, numbers) == len(expected)
        expected += [(file, number) for number in numbers]
    assert [places.where(place) for place in range(places.count)] == expected


def test_rows_that_follow_each_other_take_one_run_however_many_they_are():
    places = Places()
    for start in range(1, 100_001, 1000):
        places.add("a", range(start, start + 1000))
    places.add("b", [1, 2])
    assert len(places._starts) == 2
    assert places.where(99_999) == ("a", 100_000)
    assert places.where(100_001) == ("b", 2)
