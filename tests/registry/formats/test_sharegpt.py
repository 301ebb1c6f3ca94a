"""Sharegpt rows to records and back: tags, a leading system turn, sides that alternate, faults by turn."""

import pytest

from registry.datasets import Layout, Tags
from registry.errors import RowFault
from registry.formats import LAYOUTS, columns
from registry.formats.sharegpt import from_record, to_record
from registry.records import ChatRecord, FeedbackRecord, Message
from tests.conftest import chat, preference

SHAREGPT = LAYOUTS["sharegpt"]
PAIRS = Layout("sharegpt", columns(messages="conversations", chosen="chosen", rejected="rejected"), ranking=True)


def turns(*pairs):
    return [{"from": role, "value": value} for role, value in pairs]


def test_a_conversation_is_its_turns():
    row = {"conversations": turns(("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d"))}
    assert to_record(row, SHAREGPT) == chat("a", "b", "c", "d")


def test_a_leading_system_turn_wins_over_the_column():
    row = {"conversations": turns(("system", "turn"), ("human", "a"), ("gpt", "b")), "system": "column"}
    assert to_record(row, SHAREGPT) == chat("a", "b", system="turn")
    del row["conversations"][0]
    assert to_record(row, SHAREGPT) == chat("a", "b", system="column")


def test_tool_turns_take_the_sides_of_user_and_model():
    row = {
        "conversations": turns(("human", "a"), ("function_call", "{}"), ("observation", "1"), ("gpt", "b")),
        "tools": "[]",
    }
    assert to_record(row, SHAREGPT) == ChatRecord(
        (Message("user", "a"), Message("function", "{}"), Message("observation", "1"), Message("assistant", "b")),
        tools="[]",
    )


@pytest.mark.parametrize(
    ("conversation", "field", "reason"),
    [
        (turns(("human", "a"), ("human", "b")), "conversations[1]",
         'roles must alternate: a turn of the model\'s side (gpt or function_call) belongs here, not "human"'),
        (turns(("gpt", "a"), ("human", "b")), "conversations[0]",
         'roles must alternate: a turn of the user\'s side (human or observation) belongs here, not "gpt"'),
        (turns(("system", "s"), ("human", "a"), ("asistant", "b")), "conversations[2]",
         '"asistant" is not a role; known: human, gpt, observation, function_call.'),
        (turns(("human", "a"), ("gtp", "b")), "conversations[1]",
         '"gtp" is not a role; known: human, gpt, observation, function_call. Did you mean "gpt"?'),
        (turns(("human", "a"), ("gpt", "b"), ("system", "s")), "conversations[2]", "a system turn may only come first"),
        (turns(("human", "a"), ("gpt", 3)), "conversations[1].value", "text belongs here, not a number (3)"),
        (turns(("human", "a"), ("gpt", "b"), ("human", "c")), "conversations",
         "the last turn must be the model's answer; 3 turns end with the user's side"),
        ([], "conversations", "there is no turn in it"),
        (["a"], "conversations[0]", "a message object belongs here, not text (a)"),
        ([{"role": "human"}], "conversations[0]", 'the message has no "from"; its keys: role'),
        ([{"from": [1], "value": "a"}], "conversations[0]",
         '"[1]" is not a role; known: human, gpt, observation, function_call.'),
        ("text", "conversations", "a list of messages belongs here, not text (text)"),
    ],
)  # fmt: skip
def test_a_row_that_is_no_conversation_names_the_turn(conversation, field, reason):
    with pytest.raises(RowFault) as fault:
        to_record({"conversations": conversation}, SHAREGPT)
    assert (fault.value.field, fault.value.reason) == (field, reason)


def test_a_role_without_a_tag_does_not_exist():
    tags = Tags("from", "value", "human", "gpt", None, None, None)
    layout = Layout("sharegpt", columns(messages="conversations"), tags)
    with pytest.raises(RowFault, match='"system" is not a role; known: human, gpt'):
        to_record({"conversations": turns(("system", "s"), ("human", "a"), ("gpt", "b"))}, layout)


def test_preference_rows_have_a_prompt_that_ends_with_the_user_and_two_model_turns():
    row = {
        "conversations": turns(("human", "a"), ("gpt", "b"), ("human", "c")),
        "chosen": {"from": "gpt", "value": "good"},
        "rejected": {"from": "gpt", "value": "bad"},
    }
    assert to_record(row, PAIRS) == preference("a", "b", "c", chosen="good", rejected="bad")
    with pytest.raises(RowFault, match="a prompt must end with the user's turn; this one has 2 turns"):
        to_record({**row, "conversations": row["conversations"][:2]}, PAIRS)
    with pytest.raises(RowFault, match="a message object belongs here, not a list; datakit convert --to preference"):
        to_record({**row, "chosen": [{"from": "gpt", "value": "good"}]}, PAIRS)
    with pytest.raises(RowFault, match='an answer must be the model\'s turn, not "human"'):
        to_record({**row, "chosen": {"from": "human", "value": "x"}}, PAIRS)


@pytest.mark.parametrize(
    "record",
    [
        chat("a", "b", "c", "d", system="s"),
        ChatRecord((Message("user", "a"), Message("function", "{}")), tools="[]"),
        preference("a", chosen="b", rejected="c", system="s"),
        FeedbackRecord(chat("a", "b").messages, False),
    ],
)
def test_a_record_written_and_read_again_is_the_same(record):
    from registry.formats import detect

    row = from_record(record)
    layout = detect(row)
    assert layout is not None
    assert to_record(row, layout) == record
