"""Exact and near duplicates of made rows: among themselves, of seeds, and of rows of other files."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datakit.augment.filters import FilterOptions, plan_filters
from registry.errors import UsageError
from tests.datakit.augment.filters.made import (
    ANSWER,
    EGG,
    EXPAND,
    KEPT,
    PARAPHRASE,
    TRANSLATE,
    Recipe,
    judged,
    made,
    reason,
    seed,
    written,
)  # fmt: skip

LONG = "The ferry leaves the upper landing at eight, at noon and at five, and takes forty minutes to the island."
NEARLY = LONG.replace("the island", "the isle")
OTHER = "Bread rises twice: once as a whole, and once more when it has been shaped, each time for about an hour."


def told(*rows, recipe=EXPAND, **options):
    return [(found.verdict.reason, found.verdict.detail) for found in judged(rows, recipe, **options)]


def test_the_first_of_equal_rows_stays():
    rows = [made("Is tea hot?", "Yes."), made("Is ice hot?", "No."), made("is  TEA hot?", "Yes.")]
    assert told(*rows) == [KEPT, KEPT, ("duplicate", "the same as made row 1")]


def test_a_row_that_equals_a_seed_it_was_not_made_of_is_dropped():
    first, second = seed(), seed("What is tea?", "A drink.", number=2)
    rows = [made("What is tea?", "A drink.", of=first), made("What is milk?", "A drink too.", of=second)]
    assert told(*rows) == [("duplicate", "the same as seed seeds.jsonl, row 2"), KEPT]


def test_a_row_that_equals_one_of_another_file_is_dropped(tmp_path):
    other = tmp_path / "eval.jsonl"
    other.write_bytes(
        orjson.dumps({"conversations": [{"from": "human", "value": "Is tea hot?"}, {"from": "gpt", "value": "Yes."}]})
        + b'\n{"conversations": 7}\n'
    )
    rows = [made("Is tea hot?", "Yes."), made("Is tea hot?", "It was.")]
    assert told(*rows, against=[str(other)]) == [("duplicate", f"the same as {other}, row 1"), KEPT]


def test_rows_that_are_made_of_seeds_one_by_one_are_compared_with_other_files_alone(tmp_path):
    other = tmp_path / "eval.jsonl"
    other.write_bytes(orjson.dumps({"instruction": "Is ice hot?", "output": "No."}) + b"\n")
    tea, ice = seed("Is tea hot?", number=1), seed("Is ice hot?", number=2)
    rows = [
        made("Is tea hot?", "Yes.", of=tea),
        made("Is tea hot?", "Yes.", of=tea),
        made("Is ice hot?", "No.", of=ice),
    ]
    assert [r for r, _ in told(*rows, recipe=ANSWER, against=[str(other)])] == ["", "", "duplicate"]
    assert [r for r, _ in told(*rows, recipe=EXPAND, against=[str(other)])] == ["", "duplicate", "duplicate"]


def test_a_near_row_is_dropped_for_the_first_and_another_one_kept():
    rows = [made("When is the ferry?", LONG), made("When is the ferry?", NEARLY), made("How does bread rise?", OTHER)]
    (first, second, third) = told(*rows)
    assert first == third == KEPT
    # Runs of three tokens: 2 in the question and 18 in the answer, of which the last one differs; 19 of 21 in common.
    assert second == ("near-duplicate", "0.90 like made row 1")


def test_the_threshold_decides_and_one_switches_it_off():
    rows = [made("When is the ferry?", LONG), made("When is the ferry?", NEARLY)]
    assert told(*rows, near=0.95) == [KEPT, KEPT]
    assert told(*rows, near=0.5)[1][0] == "near-duplicate"
    assert told(*rows, near=1) == told(*rows, near=None) == told(*rows, allow=("near-duplicate",)) == [KEPT, KEPT]


def test_a_near_row_of_another_seed_is_dropped():
    ferry = seed("When does the ferry go?", LONG, number=2)
    assert told(made("When does the ferry go?", NEARLY, of=[seed(), ferry]), allow=("echo",))[0][1].endswith(
        "seed seeds.jsonl, row 2"
    )


def test_what_equals_a_near_row_is_near_to_the_row_that_stays():
    rows = [made("When is the ferry?", LONG), made("When is the ferry?", NEARLY), made("When is the ferry?", NEARLY)]
    assert [detail for _, detail in told(*rows)][1:] == [told(*rows)[1][1]] * 2
    assert told(*rows)[2][0] == "near-duplicate"


def test_a_dropped_row_stands_in_for_no_other():
    rows = [made("Is tea hot?", "Yes.", score=score) for score in (3, 9, 8)]
    assert told(*rows, min_score=7) == [("score", "3, below 7"), KEPT, ("duplicate", "the same as made row 2")]


def test_paraphrases_with_one_answer_are_compared_by_their_questions():
    rows = [
        made("What is the way to a soft yolk when I boil eggs?", EGG[1]),
        made("Eggs, boiled, yolk still runny: what do I do?", EGG[1]),
        made("what is the way to a SOFT yolk when I boil eggs?", EGG[1]),
    ]
    assert told(*rows, recipe=PARAPHRASE) == [KEPT, KEPT, ("duplicate", "the same as made row 1")]


def test_seeds_that_were_not_told_before_are_known_when_rows_of_them_come():
    tea = seed("What is tea?", "A drink.", number=2)
    rows = [made("What is milk?", "White.", of=tea), made("What is tea?", "A drink.", of=seed())]
    with plan_filters(EXPAND) as filters:
        found = [found.verdict.detail for found in filters.judge((written(row), row) for row in rows)]
    assert found == ["", "the same as seed seeds.jsonl, row 2"]


def test_rows_are_told_apart_by_the_system_text_alone():
    from tests.datakit.augment.filters.made import chat

    rows = [made(record=chat("Is tea hot?", "Yes.", system=text)) for text in ("Be short.", "Be kind.", "be short.")]
    assert [found for found, _ in told(*rows, near=None)] == ["", "", "duplicate"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"near": 0}, "--near 0"),
        ({"near": -1}, "--near -1"),
        ({"min_chars": -1}, "--min-chars -1"),
        ({"min_chars": 5, "max_chars": 4}, "--min-chars 5 --max-chars 4"),
        ({"allow": ["duplicates"]}, 'Did you mean "duplicate" or'),
    ],
)
def test_options_beyond_their_range_are_refused(options, words):
    with pytest.raises(UsageError) as refused:
        FilterOptions(**options)
    assert words in str(refused.value)


TURNS = st.sampled_from(
    ["Is tea hot?", "is tea hot?", "Yes.", "", "{{x_y}}", LONG, NEARLY, OTHER, "水开以后煮六分钟就好，不要太久。"]
)
ROWS = st.lists(st.tuples(TURNS, TURNS, st.integers(1, 3)), max_size=14)
RECIPES = st.sampled_from([EXPAND, PARAPHRASE, ANSWER, TRANSLATE])


def rows_of(turns):
    return [made(asked, answer, of=seed(f"seed {number}", LONG, number=number)) for asked, answer, number in turns]


@settings(max_examples=60, deadline=None)
@given(ROWS, RECIPES, st.sampled_from([None, 0.5, 0.8]))
def test_each_row_is_told_once_in_order_and_always_the_same(turns, recipe: Recipe, near):
    rows = rows_of(turns)
    found = judged(rows, recipe, near=near)
    assert [one.made for one in found] == rows
    assert [one.data for one in found] == [written(row) for row in rows]
    assert sum(one.verdict.kept for one in found) + sum(bool(one.verdict.reason) for one in found) == len(rows)
    assert [one.verdict for one in judged(rows, recipe, near=near)] == [one.verdict for one in found]


@settings(max_examples=40, deadline=None)
@given(ROWS, RECIPES)
def test_of_rows_that_were_kept_all_are_kept(turns, recipe: Recipe):
    kept = [one.made for one in judged(rows_of(turns), recipe) if one.verdict.kept]
    assert all(one.verdict.kept for one in judged(kept, recipe))


@settings(max_examples=30, deadline=None)
@given(ROWS, st.integers(1, 5))
def test_where_batches_end_makes_no_difference(turns, size):
    from unittest.mock import patch

    rows = rows_of(turns)
    with patch("datakit.augment.filters.BATCH", size), patch("datakit.augment.filters.bands.FEWEST_RECENT", 2):
        small = judged(rows)
    assert [one.verdict for one in small] == [one.verdict for one in judged(rows)]


def test_one_row_with_its_reason_alone():
    assert reason(made("Is tea hot?", "Yes.")) == KEPT
