"""Alpaca rows to records and back: prompt and query joined, history before them, faults by field."""

import pytest

from registry.datasets import Layout
from registry.errors import RowFault
from registry.formats import LAYOUTS, columns
from registry.formats.alpaca import from_record, to_record
from registry.records import ChatRecord, FeedbackRecord, Message, PreferenceRecord, TextRecord
from tests.conftest import chat, preference

ALPACA, PREFERENCE, KTO = LAYOUTS["alpaca"], LAYOUTS["preference"], LAYOUTS["kto"]


@pytest.mark.parametrize(
    ("instruction", "query", "question"),
    [("Add.", "1 1", "Add.\n1 1"), ("Add.", "", "Add."), ("", "1 1", "1 1"), ("", "", ""), ("Add.", None, "Add.")],
)
def test_the_question_is_what_there_is_of_prompt_and_query_joined_by_a_newline(instruction, query, question):
    row = {"instruction": instruction, "input": query, "output": "2"}
    assert to_record(row, ALPACA) == chat(question, "2")


def test_an_absent_input_column_reads_as_empty():
    assert to_record({"instruction": "hi", "output": "yo"}, ALPACA) == chat("hi", "yo")


def test_history_comes_before_the_question_and_system_beside_it():
    row = {"instruction": "c", "output": "d", "system": "s", "history": [["a", "b"]]}
    assert to_record(row, ALPACA) == chat("a", "b", "c", "d", system="s")


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ({"instruction": "a"}, "output", "the field is missing"),
        ({"instruction": "a", "output": None}, "output", "text belongs here, not null"),
        ({"instruction": "a", "output": 7}, "output", "text belongs here, not a number (7)"),
        ({"instruction": 1.5, "output": "b"}, "instruction", "text belongs here, not a number (1.5)"),
        ({"instruction": "a", "output": {"x": 1}}, "output", "text belongs here, not an object ({'x': 1})"),
        ({"instruction": "a", "output": "b", "history": "x"}, "history", "a list of [question, answer] pairs belongs here, not text (x)"),
        ({"instruction": "a", "output": "b", "history": [["x", "y"], ["z"]]}, "history[1]", "a pair of texts [question, answer] belongs here"),
    ],
)  # fmt: skip
def test_a_row_that_is_no_record_names_its_field(row, field, reason):
    with pytest.raises(RowFault) as fault:
        to_record(row, ALPACA)
    assert (fault.value.field, fault.value.reason) == (field, reason)


def test_text_preference_and_feedback_rows():
    assert to_record({"text": "once"}, LAYOUTS["text"]) == TextRecord("once")
    pair = {"instruction": "a", "chosen": "good", "rejected": "bad"}
    assert to_record(pair, PREFERENCE) == preference("a", chosen="good", rejected="bad")
    judged = {"instruction": "a", "output": "b", "kto_tag": False}
    assert to_record(judged, KTO) == FeedbackRecord(chat("a", "b").messages, False)


@pytest.mark.parametrize("tag", ["true", 1, None])
def test_feedback_needs_a_real_truth_value(tag):
    with pytest.raises(RowFault, match="true or false belongs here"):
        to_record({"instruction": "a", "output": "b", "kto_tag": tag}, KTO)


def test_any_column_may_play_any_part():
    layout = Layout("alpaca", columns(prompt="q", response="a"))
    assert to_record({"q": "hi", "a": "yo", "instruction": "not this"}, layout) == chat("hi", "yo")


@pytest.mark.parametrize(
    ("record", "row"),
    [
        (chat("a", "b"), {"instruction": "a", "input": "", "output": "b"}),
        (
            chat("a", "b", "c", "d", system="s"),
            {"instruction": "c", "input": "", "output": "d", "system": "s", "history": [["a", "b"]]},
        ),
        (preference("a", chosen="b", rejected="c"), {"instruction": "a", "input": "", "chosen": "b", "rejected": "c"}),
        (
            FeedbackRecord(chat("a", "b").messages, True),
            {"instruction": "a", "input": "", "output": "b", "kto_tag": True},
        ),
        (TextRecord("t"), {"text": "t"}),
    ],
)
def test_a_record_written_and_read_again_is_the_same(record, row):
    assert from_record(record) == row
    layout = {ChatRecord: ALPACA, PreferenceRecord: PREFERENCE, FeedbackRecord: KTO, TextRecord: LAYOUTS["text"]}
    assert to_record(row, layout[type(record)]) == record


def test_turns_that_alpaca_has_no_place_for_are_a_fault():
    calls = (Message("user", "a"), Message("function", "{}"), Message("observation", "1"), Message("assistant", "b"))
    with pytest.raises(RowFault, match="alpaca has no place for a function turn"):
        from_record(ChatRecord(calls))
