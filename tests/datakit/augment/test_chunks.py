"""Texts cut into pieces: nothing lost, as much overlap as asked for, cuts where something ends."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakit.augment.chunks import chunks, spans, words
from registry.errors import UsageError


def bytes_of(text: str) -> list[tuple[int, int]]:
    """A tokenizer of bytes: characters beyond ASCII are several tokens at one place, as in byte-level BPE."""
    return [(at, at + 1) for at, char in enumerate(text) for _ in char.encode("utf-8", "surrogatepass")]


TEXT = st.text(st.sampled_from("ab .!?\n 。你好，é😀"), max_size=300)


@given(text=TEXT, tokens=st.integers(1, 40), share=st.floats(0, 0.5), with_encode=st.booleans())
def test_pieces_cover_the_text_with_the_overlap_asked_for(text: str, tokens: int, share: float, with_encode: bool):
    overlap = int(tokens * share)
    encode = bytes_of if with_encode else words
    found = spans(text, tokens, overlap, encode)
    if not text.strip():
        assert found == []
        return
    starts = sorted({begin for begin, _ in encode(text)})
    assert (found[0][0], found[-1][1]) == (0, len(text))
    for begin, end in found:
        assert 1 <= sum(begin <= start < end for start in starts) <= tokens
    for (_, end), (begin, _) in itertools.pairwise(found):
        assert begin <= end  # no gap
        assert sum(begin <= start < end for start in starts) == overlap
    assert [text[begin:end] for begin, end in found] == chunks(text, tokens, overlap, encode)


def test_a_short_text_is_one_piece_as_it_is():
    assert chunks("  one two\n", 10, 2) == ["  one two\n"]
    assert chunks(" \n\t ", 10, 2) == []
    assert chunks("", 10, 2) == []


def test_a_piece_ends_with_a_paragraph_rather_than_a_line_rather_than_a_sentence():
    assert chunks("a b c d e f\n\ng\nh. i j k l m n o p", 8)[0] == "a b c d e f\n\n"
    assert chunks("a b c d e f. g\nh i j k l m n o p", 8)[0] == "a b c d e f. g\n"
    assert chunks('a b c d e "f." g h i j k l m n o p', 8)[0] == 'a b c d e "f." '
    assert chunks("a b c d e f g h i j k l m n o p", 8)[0] == "a b c d e f g h "


def test_chinese_is_counted_by_characters_and_cut_behind_the_full_stop():
    assert chunks("今天下雨。明天晴天。后天多云。", 7, 0) == ["今天下雨。", "明天晴天。", "后天多云。"]
    assert chunks("他说：“下雨。”明天晴天。", 10, 0) == ["他说：“下雨。”", "明天晴天。"]


def test_a_point_in_a_number_ends_no_sentence():
    assert chunks("pi is 3.14159 or so they say", 4) == ["pi is 3.14159 or ", "so they say"]


def test_pieces_are_about_equally_long():
    assert [len(piece.split()) for piece in chunks("w " * 101, 50)] == [34, 34, 33]


def test_a_long_run_without_spaces_is_not_one_token():
    assert len(chunks("x" * 1000, 10)) == 5


@pytest.mark.parametrize(("tokens", "overlap"), [(0, 0), (10, 6), (10, -1), (1, 1)])
def test_an_overlap_of_more_than_half_is_refused(tokens: int, overlap: int):
    with pytest.raises(UsageError, match=f"pieces of {tokens} tokens cannot overlap by {overlap}"):
        chunks("a b c", tokens, overlap)
