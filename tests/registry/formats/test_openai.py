"""Openai rows to records and back: tool calls as objects, arguments never encoded twice, nothing put into the prompt."""

import json

import pytest

from registry.datasets import OPENAI_TAGS, Layout
from registry.errors import RowFault
from registry.formats import LAYOUTS, columns
from registry.formats.openai import from_record, to_record
from registry.records import ChatRecord, FeedbackRecord, Message, TextRecord
from tests.conftest import chat, preference

OPENAI = LAYOUTS["openai"]


def message(role, content, **more):
    return {"role": role, "content": content, **more}


def call(arguments):
    return {"id": "1", "type": "function", "function": {"name": "add", "arguments": arguments}}


def test_messages_are_turns_and_the_system_prompt_stays_the_users_own():
    row = {"messages": [message("system", "s"), message("user", "a"), message("assistant", "b")]}
    assert to_record(row, OPENAI) == chat("a", "b", system="s")
    assert to_record({"messages": row["messages"][1:]}, OPENAI) == chat("a", "b", system="")


@pytest.mark.parametrize("arguments", ['{"x":1}', {"x": 1}])
def test_arguments_are_the_same_as_wire_text_and_as_an_object(arguments):
    row = {
        "messages": [
            message("user", "a"),
            message("assistant", None, tool_calls=[call(arguments)]),
            message("tool", "2"),
            message("assistant", "b"),
        ],
        "tools": [{"name": "add"}],
    }
    record = to_record(row, OPENAI)
    assert isinstance(record, ChatRecord)
    assert [m.role for m in record.messages] == ["user", "function", "observation", "assistant"]
    assert json.loads(record.messages[1].content) == {"name": "add", "arguments": {"x": 1}}
    assert json.loads(record.tools) == [{"name": "add"}]


def test_several_calls_of_one_message_are_a_list():
    row = {"messages": [message("user", "a"), message("assistant", "", tool_calls=[call("{}"), call("{}")])]}
    record = to_record(row, OPENAI)
    assert json.loads(record.messages[1].content) == [{"name": "add", "arguments": {}}] * 2  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("turn", "field", "reason"),
    [
        (message("assistant", None, tool_calls=[call("{x")]), "messages[1].tool_calls[0].arguments", "not JSON: "),
        (message("assistant", None, tool_calls=[{}]), "messages[1].tool_calls[0]", "a call needs a function with a name"),
        (message("assistant", None, tool_calls=5), "messages[1].tool_calls", "a list of calls belongs here, not a number (5)"),
        (message("assistant", None), "messages[1].content", "text belongs here, not null"),
        (message("asistant", "b"), "messages[1]", '"asistant" is not a role; known: user, assistant, tool, function. Did you mean "assistant"?'),
    ],
)  # fmt: skip
def test_a_message_that_is_no_turn_is_named(turn, field, reason):
    with pytest.raises(RowFault) as fault:
        to_record({"messages": [message("user", "a"), turn]}, OPENAI)
    assert fault.value.field == field
    assert fault.value.reason.startswith(reason)


def test_preference_and_feedback_rows_are_what_their_entry_says():
    parts = columns(messages="messages", chosen="chosen", rejected="rejected")
    row = {
        "messages": [message("user", "a")],
        "chosen": message("assistant", "b"),
        "rejected": message("assistant", "c"),
    }
    assert to_record(row, Layout("openai", parts, OPENAI_TAGS, ranking=True)) == preference(
        "a", chosen="b", rejected="c"
    )
    judged = {"messages": [message("user", "a"), message("assistant", "b")], "good": True}
    layout = Layout("openai", columns(messages="messages", kto_tag="good"), OPENAI_TAGS)
    assert to_record(judged, layout) == FeedbackRecord(chat("a", "b").messages, True)


def test_a_conversation_with_calls_written_and_read_again_is_the_same():
    record = ChatRecord(
        (
            Message("user", "a"),
            Message("function", '{"name":"add","arguments":{"x":1}}'),
            Message("observation", "2"),
            Message("assistant", "b"),
        ),
        "s",
        '[{"name":"add"}]',
    )
    row = from_record(record)
    assert row["messages"][2]["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"x":1}'}
    assert row["messages"][3]["tool_call_id"] == row["messages"][2]["tool_calls"][0]["id"]
    assert to_record(row, OPENAI) == record


TWO_CALLS = message("assistant", None, tool_calls=[{**call("{}"), "id": "x"}, {**call("{}"), "id": "y"}])


@pytest.mark.parametrize(
    ("results", "content"),
    [
        ([message("tool", "1", tool_call_id="x"), message("tool", "2", tool_call_id="y")], '["1","2"]'),
        ([message("tool", "2", tool_call_id="y"), message("tool", "1", tool_call_id="x")], '["1","2"]'),
        ([message("tool", "2"), message("tool", "1")], '["2","1"]'),
        ([message("tool", "2", tool_call_id="y")], "2"),
    ],
    ids=["in order", "in another order", "without ids", "one of two"],
)
def test_the_results_of_several_calls_are_one_observation_in_the_order_of_the_calls(results, content):
    row = {"messages": [message("user", "a"), TWO_CALLS, *results, message("assistant", "b")]}
    record = to_record(row, OPENAI)
    assert isinstance(record, ChatRecord)
    assert record.messages[2] == Message("observation", content)
    assert to_record(from_record(record), OPENAI) == record


def test_a_fault_behind_joined_results_has_the_number_of_its_own_message():
    row = {
        "messages": [message("user", "a"), TWO_CALLS, message("tool", "1"), message("tool", "2"), message("user", "b")]
    }
    with pytest.raises(RowFault) as fault:
        to_record(row, OPENAI)
    assert fault.value.field == "messages[4]"


def test_whole_numbers_of_any_size_and_halves_of_characters_pass_through_calls():
    arguments = {"n": 2**70, "half": "\ud800"}
    row = {"messages": [message("user", "a"), message("assistant", None, tool_calls=[call(json.dumps(arguments))])]}
    record = to_record(row, OPENAI)
    assert isinstance(record, ChatRecord)
    assert json.loads(record.messages[1].content)["arguments"] == arguments
    assert to_record(from_record(record), OPENAI) == record


def test_what_cannot_be_spelled_is_a_fault():
    with pytest.raises(RowFault, match="plain text has no turns"):
        from_record(TextRecord("a"))
    with pytest.raises(RowFault, match="the function call is not JSON"):
        from_record(ChatRecord((Message("user", "a"), Message("function", "add(1)"))))
    with pytest.raises(RowFault, match="a function call needs a name"):
        from_record(ChatRecord((Message("user", "a"), Message("function", "[1]"))))
    with pytest.raises(RowFault, match="the list of function calls is empty"):
        from_record(ChatRecord((Message("user", "a"), Message("function", "[]"))))
