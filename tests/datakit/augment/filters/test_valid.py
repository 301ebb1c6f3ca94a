"""What validate finds in made rows: errors, placeholders and refusals, but not what the seeds say themselves."""

from __future__ import annotations

import pytest

from datakit.augment.filters import FilterOptions, plan_filters, valid
from registry.records import Message, PreferenceRecord
from tests.datakit.augment.filters.made import (
    ANSWER,
    EGG,
    EXPAND,
    KEPT,
    PERSONA,
    PREFERENCE,
    THINK,
    chat,
    judged,
    made,
    reason,
    seed,
    written,
)  # fmt: skip

REFUSAL = "I'm sorry, but I can't help with that request."


def test_a_row_that_validate_finds_an_error_in_is_dropped_with_the_code():
    same = PreferenceRecord((Message("user", EGG[0]),), Message("assistant", "Six."), Message("assistant", "Six."))
    assert reason(made(record=same), PREFERENCE) == ("invalid", "PF005: chosen and rejected are the same")


def test_a_row_is_judged_as_it_will_be_written():
    row = made("Is tea hot?", "Yes.")
    with plan_filters(EXPAND) as filters:
        found = [found.verdict.reason for found in filters.judge([({"instruction": "Is tea hot?", "output": 7}, row)])]
    assert found == ["invalid"]


def test_warnings_drop_no_row():
    assert reason(made("Is tea hot?", "Yes\u200b, it is.")) == KEPT  # CH005: invisible characters


def test_a_placeholder_is_dropped_and_a_name_kept():
    assert reason(made("Who cooks?", "{{name}} does.")) == ("placeholder", "PL001: a placeholder left unfilled")
    assert reason(made("Who cooks?", "Nia does.")) == KEPT


def test_a_placeholder_that_the_seed_has_is_meant():
    template = seed("Who are you?", "I am {{name}}.")
    assert reason(made("Who is this?", "It is me, {{name}}.", of=template)) == KEPT
    assert reason(made("Who is this?", "It is me, {{user}}.", of=template))[0] == "placeholder"
    in_system = seed(record=chat("Who are you?", "Nia.", system="You are {{name}}."))
    assert reason(made("Who is this?", "It is me, {{name}}.", of=in_system)) == KEPT


def test_a_refusal_is_dropped_and_an_answer_that_is_sorry_kept():
    assert reason(made("How do I fry an egg?", REFUSAL)) == ("refusal", "RF001: an answer that refuses")
    assert reason(made("How do I fry an egg?", "I'm sorry to hear that you have no pan; use a pot.")) == KEPT


def test_a_question_may_be_a_refusal():
    assert reason(made(REFUSAL, "You said that before, and it is fine.")) == KEPT


def test_seeds_that_refuse_are_meant_to():
    assert (
        reason(made("Tell me her address.", REFUSAL, of=seed("Where does he live?", REFUSAL + " It is private.")))
        == KEPT
    )


def test_a_refusal_after_thoughts_is_one():
    assert reason(made(EGG[0], f"<think>\nMay I?\n</think>\n\n{REFUSAL}"), THINK)[0] == "refusal"


def test_a_row_that_passes_unchanged_may_refuse():
    assert reason(made("Where is he?", REFUSAL, of=seed("Where is he?", REFUSAL)), ANSWER) == KEPT


def test_rows_about_who_the_model_is_may_say_that_it_is_an_ai():
    says = "As an AI language model, I was built by Ada to help with cooking."
    assert reason(made("Who are you?", says, of=[]), PERSONA) == KEPT
    assert reason(made("Who are you?", says))[0] == "refusal"


def test_a_reason_may_be_allowed():
    assert reason(made("How do I fry an egg?", REFUSAL), allow=("refusal",)) == KEPT


def test_rows_of_several_shapes_may_come_together():
    long = made("Is tea hot?", "Yes.", "And ice?", "{{no}}")
    rows = [made("Is ice hot?", "No."), long, made("Is it {{this}}?", "Yes."), made("Is milk white?", "Yes.")]
    assert [("messages" in w or "conversations" in w) for w in map(written, rows)] == [False, True, False, False]
    assert [found.verdict.reason for found in judged(rows)] == ["", "placeholder", "placeholder", ""]


def test_options_are_frozen():
    assert FilterOptions() == FilterOptions(near=0.8, language="auto")


@pytest.mark.parametrize(
    "text",
    [
        "Dear [Your Name Here],",
        "Sent on <insert date here>.",
        "签名：【您的姓名】",
        "Regards, [Name]",
        "[Company name] will pay.",
    ],
)
def test_a_blank_that_a_model_left_is_a_placeholder(text):
    assert valid.BLANKS.search(text)


@pytest.mark.parametrize(
    "text", ["[Your profile](https://example.com)", "items[0] = 1", "[1] a source", "if a < your_b > c:", "数组[0]"]
)
def test_brackets_that_nobody_is_to_fill_in_are_none(text):
    assert not valid.BLANKS.search(text)
