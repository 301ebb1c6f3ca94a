"""Whole conversations in chosen and rejected (or prompt and completion): what they share is the prompt."""

import pytest

from registry.errors import RowFault
from registry.formats.trl import layout_of, to_record
from registry.records import ChatRecord, FeedbackRecord, Message
from tests.conftest import chat, preference


def turns(*texts, system=None):
    roles = ("user", "assistant")
    said = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return [{"role": "system", "content": system}, *said] if system else said


def read(row):
    layout = layout_of(row)
    assert layout is not None
    return to_record(row, layout)


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": turns("a", "b"), "rejected": turns("a", "c")},
        {"prompt": "a", "chosen": turns("a", "b"), "rejected": turns("a", "c")},
        {"prompt": "a", "chosen": turns("a", "b")[1:], "rejected": turns("a", "c")[1:]},
        {"prompt": turns("a"), "chosen": turns("a", "b")[1:], "rejected": turns("a", "c")[1:]},
        {"prompt": turns("a"), "chosen": turns("a", "b"), "rejected": turns("a", "c")},
    ],
    ids=["shared", "text and whole", "text and answers", "messages and answers", "messages and whole"],
)
def test_every_way_to_spell_a_pair_is_the_same_record(row):
    assert read(row) == preference("a", chosen="b", rejected="c")


def test_earlier_turns_and_the_system_prompt_are_shared():
    row = {"chosen": turns("a", "b", "c", "d", system="s"), "rejected": turns("a", "b", "c", "e", system="s")}
    assert read(row) == preference("a", "b", "c", chosen="d", rejected="e", system="s")


def test_prompt_and_completion_are_a_conversation_and_with_a_label_a_judged_one():
    row = {"prompt": turns("a"), "completion": turns("a", "b")[1:]}
    assert read(row) == chat("a", "b")
    assert read({**row, "label": False}) == FeedbackRecord(chat("a", "b").messages, False)


def test_tool_calls_are_read_in_it():
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    row = {"prompt": turns("a"), "completion": [call], "tools": [{"name": "f"}]}
    assert read(row) == ChatRecord(
        (Message("user", "a"), Message("function", '{"name":"f","arguments":{}}')), tools='[{"name":"f"}]'
    )


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": "a", "rejected": "b"},
        {"prompt": "a", "chosen": {"role": "assistant", "content": "b"}, "rejected": {"role": "assistant", "content": "c"}},
        {"prompt": "a", "completion": "b"},
        {"messages": turns("a", "b")},
    ],
)  # fmt: skip
def test_other_rows_are_not_of_this_shape(row):
    assert layout_of(row) is None


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ({"chosen": turns("a", "b"), "rejected": turns("x", "c")}, "chosen[0]",
         "chosen and rejected part ways before their last message; only that may differ"),
        ({"chosen": turns("a", "b", "c", "d"), "rejected": turns("a", "b")}, "chosen",
         "chosen and rejected part ways before their last message; only that may differ"),
        ({"prompt": "q", "chosen": turns("a", "b"), "rejected": turns("a", "c")}, "chosen",
         "its first question is not the one in prompt"),
        ({"prompt": 5, "chosen": turns("a", "b"), "rejected": turns("a", "c")}, "prompt",
         "a list of messages or text belongs here, not a number (5)"),
        ({"chosen": turns("a"), "rejected": turns("b")}, "chosen", "a prompt must end with the user's turn; this one has 0 turns"),
        ({"chosen": turns("a", "b", "c"), "rejected": turns("a", "b", "d")}, "chosen", "a prompt must end with the user's turn; this one has 2 turns"),
        ({"prompt": turns("a"), "completion": [{"role": "assistant", "content": 5}]}, "completion[0].content",
         "text belongs here, not a number (5)"),
        ({"prompt": [{"role": "user", "content": 5}], "completion": turns("a", "b")[1:]}, "prompt[0].content",
         "text belongs here, not a number (5)"),
        ({"chosen": [*turns("a"), "b"], "rejected": turns("a", "c")}, "chosen[1]", "a message object belongs here, not text (b)"),
    ],
)  # fmt: skip
def test_sides_that_are_no_pair_are_named(row, field, reason):
    with pytest.raises(RowFault) as fault:
        read(row)
    assert (fault.value.field, fault.value.reason) == (field, reason)


def test_columns_may_be_called_otherwise():
    row = {"good": turns("a", "b"), "bad": turns("a", "c")}
    layout = layout_of(row, {"chosen": "good", "rejected": "bad"})
    assert layout is not None
    assert to_record(row, layout) == preference("a", chosen="b", rejected="c")
