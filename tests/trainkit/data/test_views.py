"""Views tell where their examples come from."""

from __future__ import annotations

import pytest

from registry.cuts import EncodeRules
from registry.texts import TextRules
from tests.trainkit.data.test_tally import Row, order_of, row, stored, viewed
from trainkit.data.makes import Feedback, Turns
from trainkit.data.text_view import TextView

BOS = 1
# Three texts of 3, 0 and 6 tokens, numbered through.
TEXTS = [Row([[10, 11, 12]]), Row([[]]), Row([[13, 14, 15, 16, 17, 18]])]


def test_an_example_names_the_file_and_row_that_it_is_made_of() -> None:
    with stored([row(3, 3), row(3, 0), row(3, 3)]) as rows:
        view = viewed(rows, Turns(EncodeRules(100), None))
        assert [view.places(number) for number in range(len(view))] == [[("rows.jsonl", 1)], [("rows.jsonl", 2)]]


def test_feedback_also_names_the_row_of_the_other_answer() -> None:
    with stored([Row([[7], [], [8]], desirable=True) for _ in range(3)]) as rows:
        view = viewed(rows, Feedback(EncodeRules(100), None))
        assert view.places(0) == [("rows.jsonl", 1), ("rows.jsonl", 2)]
        assert view.places(1) == [("rows.jsonl", 1), ("rows.jsonl", 1)]


@pytest.mark.parametrize(
    ("bos", "strict", "ids", "places"),
    [
        (None, False, [[10, 11, 12, 13], [14, 15, 16, 17]], [[(1, 0), (2, 3)], [(2, 0)]]),
        (BOS, False, [[1, 10, 11, 12], [1, 13, 14, 15], [1, 16, 17, 18]], [[(1, 0)], [(2, 0)], [(2, 0)]]),
        (BOS, True, [[1, 11, 12, 13], [1, 15, 16, 17]], [[(1, 0), (2, 3)], [(2, 0)]]),
    ],
    ids=["plain", "with a BOS before it", "with a BOS over its first token"],
)
def test_a_block_names_its_texts_and_where_each_begins(
    bos: int | None, strict: bool, ids: list[list[int]], places: list[list[tuple[int, int]]]
) -> None:
    rules = TextRules(cutoff_len=4, blocks=True, window=None, bos_id=bos, strict=strict)
    with stored(TEXTS) as rows:
        view = TextView([rows], order_of(rows), rules, ["key"], masked=None)
        assert [list(view[number].ids) for number in range(len(view))] == ids
        found = [[(row, at) for _, row, at in view.places(number)] for number in range(len(view))]
    assert found == places


def test_behind_a_bos_a_later_text_begins_one_token_later() -> None:
    rules = TextRules(cutoff_len=6, blocks=True, window=None, bos_id=BOS, strict=False)
    with stored(TEXTS) as rows:
        view = TextView([rows], order_of(rows), rules, ["key"], masked=None)
        assert list(view[0].ids) == [1, 10, 11, 12, 13, 14]
        assert view.places(0) == [("rows.jsonl", 1, 0), ("rows.jsonl", 2, 4)]
