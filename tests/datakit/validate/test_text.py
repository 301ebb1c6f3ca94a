"""The text rules: where each hit is, which texts it is sought in, and that texts do not disturb each other."""

from __future__ import annotations

import dataclasses
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datakit.validate.patterns import Pattern, all_patterns
from datakit.validate.text import HITS_PER_TEXT, Hit, TextRules, _matches, text_codes

RULES = TextRules(text_codes())
KEY = "AKIA" + "UJZDEGXDNCF32EPF"

# Texts of the pack's own examples among arbitrary ones, halves of characters included.
characters = st.characters(exclude_categories=())
pieces = st.one_of(
    st.sampled_from([text for pattern in all_patterns() for text in (*pattern.match, *pattern.no_match)]),
    st.text(characters, max_size=12),
    st.sampled_from([" ", "\n", "。", "1", "a", "-", "@", "{{", "```", "\u200d", "+1", "\ud800"]),
)
some_text = st.lists(pieces, max_size=5).map("".join)


def scan(*texts: str, answers: bool = True) -> list[Hit]:
    return RULES.scan(texts, [answers] * len(texts))


def codes_in(text: str, *, answer: bool = False) -> list[str]:
    return [hit.code for hit in TextRules().scan([text], [answer])]


def test_a_hit_says_which_text_which_rule_and_from_where_to_where() -> None:
    texts = ["nothing here", "Write to karin.lund@nordbygg.se, {{name}}.", f"id = {KEY}"]
    assert scan(*texts, answers=False) == [
        Hit(1, 9, 31, "PD001"),
        Hit(1, 33, 41, "PL001"),
        Hit(2, 5, 25, "SC001"),
    ]


def test_positions_count_characters_not_bytes() -> None:
    assert scan("联系电话🎉：13917264058。", answers=False) == [Hit(0, 6, 17, "PD003")]


def test_a_hit_holds_no_text_so_that_no_key_can_be_printed() -> None:
    assert [field.name for field in dataclasses.fields(Hit)] == ["index", "start", "end", "code"]
    assert KEY not in repr(scan(KEY))


def test_of_a_longer_match_only_the_secret_itself_is_pointed_at() -> None:
    text = "postgres://app:t7Kq2vLx9@db.internal/shop"
    [hit] = scan(text)
    assert (hit.code, text[hit.start : hit.end]) == ("SC016", "t7Kq2vLx9")


def test_refusals_are_sought_in_answers_only() -> None:
    text = "I'm sorry, but I can't assist with that."
    assert codes_in(text, answer=True) == ["RF001"]
    assert codes_in(text, answer=False) == []


def test_a_refusal_is_sought_at_the_beginning_only() -> None:
    assert codes_in("Here is the poem. I can't help with that.", answer=True) == []
    assert codes_in("<think>\nNo.\n</think>\n\nI can't help with that.", answer=True) == ["RF001"]


def test_each_text_is_judged_by_its_own_mark() -> None:
    text = "I cannot fulfill this request."
    assert [hit.index for hit in RULES.scan([text, "x", text, text], [False, True, True, False])] == [2]


def test_only_the_chosen_rules_run_and_codes_of_other_checks_are_passed_over() -> None:
    text = f"{{{{name}}}} {KEY} \ud800"
    assert [hit.code for hit in TextRules({"SC001", "AL004"}).scan([text], [True])] == ["SC001"]
    assert [hit.code for hit in TextRules({"CH003"}).scan([text], [True])] == ["CH003"]
    assert TextRules(()).scan([text], [True]) == []


def test_ip_addresses_are_found_only_when_asked_for() -> None:
    assert codes_in("from 85.214.132.117 port 22") == []
    assert [hit.code for hit in TextRules({"PD009"}).scan(["from 85.214.132.117"], [False])] == ["PD009"]


def test_halves_of_characters_are_found_and_the_rest_of_the_text_is_searched_all_the_same() -> None:
    assert scan("ab", "\ud83d {{name}} \udc00\udc01", "fine", answers=False) == [
        Hit(1, 0, 1, "CH003"),
        Hit(1, 2, 10, "PL001"),
        Hit(1, 11, 13, "CH003"),
    ]


def test_whole_characters_beyond_the_basic_plane_are_no_halves() -> None:
    assert scan("🎉 𝒳 漢字") == []


def test_a_key_in_an_assignment_is_told_once_by_its_own_name() -> None:
    key = "sk-" + "IIXGvOoNZYW2mZp0zVZoT3BlbkFJmHFwUbbYrEqmSM9wCZ7U"
    assert codes_in(f'api_key = "{key}"') == ["SC005"]
    assert codes_in('api_key = "F4vUCsMehGAkWvj7FAc9Qe"') == ["SC017"]


def test_a_number_is_told_once_by_the_narrowest_of_its_kinds() -> None:
    assert codes_in("+86 139-1726-4058") == ["PD003"]
    assert codes_in("+1 (415) 867-2394") == ["PD002"]


def test_a_number_swallowed_by_a_wider_match_is_still_found() -> None:
    # Without its edges the pattern of an IBAN matches from "TE12" on and would end within the real one.
    text = "NOTE12 ABCD EFGH DE12 3705 0299 0012 3456 78"
    assert [text[hit.start : hit.end] for hit in scan(text)] == ["DE12 3705 0299 0012 3456 78"]


def test_a_run_of_broken_characters_is_one_hit() -> None:
    assert scan("a\0\0\0b\ufffd\ufffd") == [Hit(0, 1, 4, "CH001"), Hit(0, 5, 7, "CH002")]


def test_a_text_full_of_one_thing_is_told_a_bounded_number_of_times() -> None:
    hits = scan("k.lund@nordbygg.se " * 1000, "k.lund@nordbygg.se", answers=False)
    assert len(hits) == HITS_PER_TEXT + 1
    assert hits[-1].index == 1


def test_nothing_comes_of_nothing() -> None:
    assert scan() == []
    assert scan("", "") == []


def test_marks_that_do_not_fit_the_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="2 texts, but 1 marks"):
        RULES.scan(["a", "b"], [True])


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.tuples(some_text, st.booleans()), max_size=6))
def test_many_texts_give_what_each_gives_alone(texts: list[tuple[str, bool]]) -> None:
    alone = [
        dataclasses.replace(hit, index=index)
        for index, (text, answer) in enumerate(texts)
        for hit in RULES.scan([text], [answer])
    ]
    assert RULES.scan([text for text, _ in texts], [answer for _, answer in texts]) == alone


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(some_text, min_size=2, max_size=6), seed=st.integers(0, 1000))
def test_the_order_of_the_texts_does_not_matter(texts: list[str], seed: int) -> None:
    order = random.Random(seed).sample(range(len(texts)), len(texts))
    shuffled = RULES.scan([texts[place] for place in order], [True] * len(texts))
    assert sorted(dataclasses.replace(hit, index=order[hit.index]) for hit in shuffled) == scan(*texts)


@settings(max_examples=60, deadline=None)
@given(text=some_text)
def test_each_hit_points_at_text_that_a_pattern_of_its_code_matches(text: str) -> None:
    hits = scan(text)
    assert hits == sorted(hits)
    for hit in hits:
        assert 0 <= hit.start < hit.end <= len(text)
        if hit.code == "CH003":
            assert all("\ud800" <= character <= "\udfff" for character in text[hit.start : hit.end])
            continue
        whole = "".join("?" if "\ud800" <= character <= "\udfff" else character for character in text)
        spans = {
            match.span("hit" if "hit" in match.re.groupindex else 0)
            for pattern in all_patterns()
            if pattern.code == hit.code
            for match in pattern.located.finditer(whole)
        }
        assert (hit.start, hit.end) in spans


@settings(max_examples=60, deadline=None)
@given(text=some_text)
def test_hits_of_one_family_never_overlap(text: str) -> None:
    last: dict[str, int] = {}
    for hit in scan(text):
        family = hit.code[:2] if hit.code != "CH003" else hit.code
        assert hit.start >= last.get(family, 0)
        last[family] = hit.end


@settings(max_examples=80, deadline=None)
@given(text=some_text, pattern=st.sampled_from(all_patterns()))
def test_locating_by_what_rust_found_equals_searching_the_whole_text(text: str, pattern: Pattern) -> None:
    # Python's own matches of the wider regex stand in for Rust's: they are leftmost and do not overlap either.
    wider = [match[0] for match in re.finditer(pattern.regex, text)]
    located = _matches(pattern.located, text, wider)
    assert [match.span() for match in located] == [match.span() for match in pattern.located.finditer(text)]


@settings(max_examples=150, deadline=None)
@given(
    text=st.text("abcd ", max_size=24),
    located=st.sampled_from(["ab", "b.d|d.?", "(?<!a)b+", "c(?!d)", "abc|b", "a.*c"]),
)
def test_locating_finds_several_matches_within_one_of_the_wider_pattern(text: str, located: str) -> None:
    wider = [match[0] for match in re.finditer("[a-d](?: ?[a-d])*", text)]
    spans = [match.span() for match in re.finditer(located, text)]
    assert [match.span() for match in _matches(re.compile(located), text, wider)] == spans
