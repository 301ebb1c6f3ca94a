"""Items in lists of one size, every item once and in order."""

from hypothesis import given
from hypothesis import strategies as st

from registry.batches import batched


def test_the_last_batch_may_be_shorter():
    assert list(batched("abcde", 2)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(batched([], 2)) == []


@given(st.lists(st.integers()), st.integers(1, 9))
def test_batches_hold_every_item_once_and_in_order(items, size):
    batches = list(batched(items, size))
    assert [item for batch in batches for item in batch] == items
    assert all(len(batch) == size for batch in batches[:-1])


def test_items_are_taken_only_as_they_are_needed():
    taken = []
    source = (taken.append(i) or i for i in range(10))
    next(batched(source, 3))
    assert taken == [0, 1, 2]
