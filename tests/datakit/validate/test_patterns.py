"""The pack of patterns: each of its examples, and that Rust, which sifts, and Python, which locates, agree."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from datakit.validate.confirm import CONFIRM
from datakit.validate.patterns import Pattern, all_patterns, chosen_patterns, iban_lengths, known_values, sieves_of
from datakit.validate.text import text_codes

PATTERNS = all_patterns()


def labelled(kind: str) -> list[object]:
    return [
        pytest.param(pattern, text, id=f"{pattern.code} {pattern.name} {number}")
        for pattern in PATTERNS
        for number, text in enumerate(getattr(pattern, kind))
    ]


def rust_finds(regex: str, texts: list[str]) -> list[bool]:
    return pl.Series(texts, dtype=pl.String).str.contains(regex).to_list()


def passes_a_sieve(pattern: Pattern, text: str) -> bool:
    return any(rust_finds(sieve.regex, [text])[0] for sieve in sieves_of([pattern]))


def found(pattern: Pattern, text: str) -> bool:
    confirm = CONFIRM[pattern.confirm] if pattern.confirm else bool
    return any(confirm(match) for match in pattern.located.finditer(text))


@cache
def every_example() -> list[str]:
    return sorted({text for pattern in PATTERNS for text in (*pattern.match, *pattern.no_match)})


@pytest.mark.parametrize(("pattern", "text"), labelled("match"))
def test_what_an_entry_says_it_matches_is_found_by_rust_and_by_python(pattern: Pattern, text: str) -> None:
    assert found(pattern, text)
    assert rust_finds(pattern.regex, [text]) == [True]
    assert passes_a_sieve(pattern, text)


@pytest.mark.parametrize(("pattern", "text"), labelled("no_match"))
def test_what_an_entry_says_it_does_not_match_is_not_found(pattern: Pattern, text: str) -> None:
    assert not found(pattern, text)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: f"{pattern.code} {pattern.name}")
def test_rust_and_python_agree_on_the_same_regex_over_every_example_of_the_pack(pattern: Pattern) -> None:
    texts = every_example()
    python = re.compile(pattern.regex)
    assert rust_finds(pattern.regex, texts) == [python.search(text) is not None for text in texts]


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: f"{pattern.code} {pattern.name}")
def test_rust_passes_on_every_example_in_which_python_finds_something(pattern: Pattern) -> None:
    texts = every_example()
    held = [text for text in texts if pattern.located.search(text)]
    assert all(rust_finds(pattern.regex, held))
    assert all(passes_a_sieve(pattern, text) for text in held)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_python_matches_rust_passes_on(data: st.DataObject) -> None:
    pattern = data.draw(st.sampled_from(PATTERNS), label="pattern")
    core = data.draw(st.from_regex(re.compile(pattern.regex), fullmatch=True), label="core")
    text = (
        data.draw(st.sampled_from(["", "a", " ", "电话:", "1"]))
        + core
        + data.draw(st.sampled_from(["", ".", "z", "。", "9"]))
    )
    if pattern.located.search(text):
        assert rust_finds(pattern.regex, [text]) == [True]
        assert passes_a_sieve(pattern, text)


def test_every_code_of_the_pack_is_told_of_in_codes_yaml_as_a_warning_and_lone_surrogates_as_an_error() -> None:
    codes = yaml.safe_load((files("datakit.validate") / "codes.yaml").read_text(encoding="utf-8"))
    levels = {code: codes[code]["level"] for code in text_codes()}
    assert {code for code, level in levels.items() if level == "error"} == {"CH003"}
    assert set(levels.values()) == {"error", "warning"}


def test_the_pack_and_the_functions_that_confirm_name_each_other() -> None:
    assert {pattern.confirm for pattern in PATTERNS if pattern.confirm} == set(CONFIRM)


def test_every_entry_shows_what_it_matches_and_what_it_does_not() -> None:
    assert [pattern.name for pattern in PATTERNS if not (pattern.match and pattern.no_match)] == []


def test_the_made_up_keys_of_the_pack_do_not_look_real_to_a_scanner_of_the_repository() -> None:
    text = (files("datakit.validate") / "patterns.yaml").read_text(encoding="utf-8")
    by_prefix = [pattern for pattern in PATTERNS if pattern.code[:2] == "SC" and pattern.code not in ("SC016", "SC017")]
    assert [pattern.code for pattern in by_prefix if found(pattern, text)] == []


def test_ip_addresses_are_looked_for_only_when_asked_for() -> None:
    assert "PD009" not in {pattern.code for pattern in chosen_patterns(None)}
    assert [pattern.code for pattern in chosen_patterns({"PD009", "AL001"})] == ["PD009"]
    codes = yaml.safe_load((files("datakit.validate") / "codes.yaml").read_text(encoding="utf-8"))
    assert {code for code in text_codes() if codes[code].get("opt_in")} == {p.code for p in PATTERNS if p.opt_in}


def test_one_sieve_serves_several_patterns_and_each_pattern_has_one() -> None:
    sieves = sieves_of(PATTERNS)
    assert len(sieves) < len(PATTERNS)
    assert {pattern for sieve in sieves for pattern in sieve.patterns} == set(PATTERNS)


def test_every_literal_and_every_character_passes_a_sieve_of_its_pattern() -> None:
    sieves = [(re.compile(sieve.regex), sieve.patterns) for sieve in sieves_of(PATTERNS)]
    for pattern in PATTERNS:
        for text in (*pattern.literals, *pattern.characters):
            assert any(regex.search(text) for regex, behind in sieves if pattern in behind), (pattern.code, text)


def test_the_lists_hold_texts_and_iban_lengths_hold_norway() -> None:
    # YAML reads a bare NO as false and a bare number as a number; a list with either would never be matched.
    assert iban_lengths()["NO"] == 15
    assert all(isinstance(country, str) and 15 <= size <= 33 for country, size in iban_lengths().items())
    assert {"4111111111111111", "5555555555554444"} <= known_values("cards")
    assert "localhost" in known_values("mail_endings")
