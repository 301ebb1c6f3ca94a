"""Slots filled with text, and special tokens in a text cut apart."""

import re

from hypothesis import given
from hypothesis import strategies as st

from registry.slots import filled, pieces_of, special_pattern
from registry.templates import Token
from tests.conftest import BYTES

EOS = Token(of="eos_token")
PATTERN = special_pattern(BYTES.specials)


def test_a_text_takes_its_place_and_the_turns_number_too():
    assert filled(("[{{idx}}] {{content}}!", EOS, "\n"), ["hi {{idx}} {{content}}"], 3) == (
        "[3] hi {{idx}} {{content}}!",
        EOS,
        "\n",
    )


def test_pieces_stand_one_by_one_between_what_is_before_and_after():
    assert filled(("<{{content}}>",), ["a", "b", "c"], 0) == ("<a", "b", "c>")


def test_a_special_token_is_cut_after_its_first_character():
    assert pieces_of("say <eos> twice<eos>", PATTERN) == ["say <", "eos> twice<", "eos>"]
    assert pieces_of("plain < text", PATTERN) == ["plain < text"]
    assert pieces_of("<eos>", None) == ["<eos>"]


def test_a_token_inside_a_token_is_cut_as_well():
    assert pieces_of("<|a|>", special_pattern(["<|a|>", "|a|>"])) == ["<", "|", "a|>"]


def test_tokens_of_one_character_cannot_be_cut():
    assert special_pattern(["x"]) is None
    assert special_pattern([]) is None
    assert special_pattern(["x", "<a>", "<ab>"]) == re.compile("<ab>|<a>")


SPECIAL_TEXT = st.lists(st.sampled_from([*BYTES.specials, "<", "a", "é", "|im_end|>", " "])).map("".join)


@given(SPECIAL_TEXT)
def test_pieces_read_as_the_text_and_give_no_special_token(text):
    pieces = pieces_of(text, PATTERN)
    assert "".join(pieces) == text
    assert all(token < 256 for ids in BYTES.encode_batch(pieces) for token in ids)
