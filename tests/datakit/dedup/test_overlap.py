"""Rows that share n-grams with an evaluation set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from datakit.dedup.grams import tokens_of_rows
from datakit.dedup.overlap import EvaluationSet
from tests.datakit.dedup import naive

WORDS = st.lists(st.sampled_from("abcd"), max_size=9).map(" ".join)
ROWS = st.lists(st.lists(WORDS, max_size=3), max_size=5)


def overlaps(evaluation: list[list[str]], rows: list[list[str]], size: int, least: float | None = None):
    found = EvaluationSet(size, least)
    found.add(tokens_of_rows(evaluation[:2]).by_text(size), len(evaluation[:2]))
    found.add(tokens_of_rows(evaluation[2:]).by_text(size), len(evaluation[2:]))
    found.close()
    told = found.overlaps(tokens_of_rows(rows).by_text(size))
    return {row: (overlap.place, overlap.share) for row, overlap in sorted(told.items())}, found


def ngrams_of_evaluation_row(texts: list[str], size: int) -> set[tuple[str, ...]]:
    lengths = [len(naive.words(text)) for text in texts]
    longest = max(lengths, default=0)
    counted = [text for text, length in zip(texts, lengths, strict=True) if length >= min(longest, size)]
    return set().union(*(naive.ngrams(naive.words(text), size) for text in counted))


@given(ROWS, ROWS, st.integers(1, 4), st.sampled_from([None, 0.3, 1.0]))
def test_the_evaluation_row_that_overlaps_most_is_named(evaluation, rows, size, least):
    expected = {}
    for number, texts in enumerate(rows):
        own = naive.shingles(texts, size)
        shares = []
        for place, others in enumerate(evaluation):
            wanted = ngrams_of_evaluation_row(others, size)
            if own & wanted:
                shares.append((len(own & wanted) / len(wanted), -place))
        if shares and (least is None or max(shares)[0] >= least):
            expected[number] = (-max(shares)[1], max(shares)[0])
    assert overlaps(evaluation, rows, size, least)[0] == expected


def test_one_run_of_thirteen_words_is_enough():
    question = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    inside = f"so {question} indeed"
    told, _ = overlaps([[question]], [[inside], [question.replace("seven", "7")], ["nothing alike"]], 13)
    assert told == {0: (0, 1.0)}


def test_a_text_without_spaces_counts_by_its_characters():
    told, _ = overlaps(
        [["中华人民共和国中央人民政府今天成立了"]], [["一九四九年，中华人民共和国中央人民政府今天成立"], ["中国"]], 13
    )
    assert [*told] == [0]


def test_a_short_row_is_compared_by_its_longest_text_as_a_whole():
    """The answer "Paris" alone would overlap with every row that has it."""
    evaluation = [["What is the capital of France?", "Paris"]]
    rows = [["Paris"], ["what is the capital of FRANCE"], ["What is the capital of France, and why?"], ["x", "Paris"]]
    told, found = overlaps(evaluation, rows, 13)
    assert told == {1: (0, 1.0)}
    assert found.num_whole == 1


def test_rows_without_a_word_protect_nothing_and_are_counted():
    told, found = overlaps([["..."], [], ["a b c"]], [["..."], ["a b c"]], 2)
    assert told == {1: (2, 1.0)}
    assert (found.num_empty, found.num_rows, found.num_grams) == (2, 3, 2)
