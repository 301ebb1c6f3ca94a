"""The codes of all faults: whole, named where they are used, and set to a level by code or family."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import datakit.validate
from datakit.validate.codes import all_codes, levels_of
from datakit.validate.find import TEXT_FAMILIES
from datakit.validate.mend import MENDS
from datakit.validate.text import text_codes
from registry.errors import UsageError
from registry.stages import KINDS

SOURCES = [path.read_text() for path in Path(datakit.validate.__file__).parent.glob("*.py")]


def test_every_code_says_what_is_wrong_and_what_to_do():
    for code in all_codes().values():
        assert re.fullmatch(r"[A-Z]{2}\d{3}", code.code)
        assert code.level in ("error", "warning")
        assert code.title
        assert code.mend
        assert set(code.stages) <= KINDS.keys()


def test_every_code_in_the_rules_is_in_the_table_and_every_code_in_the_table_is_used():
    named = {code for text in SOURCES for code in re.findall(r'"([A-Z]{2}\d{3})"', text)} | text_codes()
    of_turns = {number for text in SOURCES for number in re.findall(r'\{(?:spelling\.)?family\}(\d{3})"', text)}
    named |= {family + number for family in ("SG", "OA") for number in of_turns}
    assert named == all_codes().keys()


def test_what_can_be_mended_says_so():
    assert {code.code for code in all_codes().values() if code.fixable} == {*MENDS, "RD006", "RD010"}


def test_the_rules_for_texts_are_those_of_the_families_that_no_text_leaves_out():
    assert text_codes() == {code for code in all_codes() if code.startswith(TEXT_FAMILIES)}


def test_a_level_comes_from_the_table_the_stage_and_the_options_a_code_before_its_family():
    assert levels_of()["AL004"] == "error"
    assert (levels_of("pt")["AL004"], levels_of("sft")["AL004"]) == ("warning", "error")
    assert levels_of("pt", deny=["AL"])["AL004"] == "error"
    levels = levels_of(deny=["SC*"], allow=["SC003,PD"], warn=["sc004"])
    assert [levels.get(code) for code in ("SC001", "SC003", "SC004", "PD001")] == ["error", None, "warning", None]


def test_what_runs_only_when_asked_for_is_no_part_of_a_run_that_does_not_name_it():
    opt_in = [code.code for code in all_codes().values() if code.opt_in]
    assert opt_in
    for name in opt_in:
        assert name not in levels_of()
        assert levels_of(warn=[name])[name] == "warning"


def test_families_of_unreadable_rows_are_let_pass_but_for_those():
    assert "RD001" in levels_of(allow=["RD"])
    assert "RD007" not in levels_of(allow=["RD"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"deny": ["SG0O1"]}, 'Did you mean "SG0'),
        ({"allow": ["XX"]}, "Families: AL, CH"),
        ({"deny": ["AL004"], "warn": ["al004"]}, "given to --deny and to --warn"),
        ({"warn": ["RD003"]}, "cannot be read"),
    ],
)
def test_wrong_names_are_refused_with_the_nearest_one(options, told):
    with pytest.raises(UsageError) as error:
        levels_of(**options)
    assert told in str(error.value)
