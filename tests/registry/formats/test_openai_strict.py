"""The openai format by LLaMA-Factory's rules: what it adds to system texts, and how it takes calls and their results."""

import pytest

from registry.errors import RowFault
from registry.formats import LAYOUTS, READERS, STRICT_READERS
from registry.formats.openai_strict import to_record_strict
from registry.records import ChatRecord, Message

LAYOUT = LAYOUTS["openai"]


def said(*texts, system=None, tools=None):
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    head = [] if system is None else [{"role": "system", "content": system}]
    return {"messages": head + messages, "tools": tools}


@pytest.mark.parametrize(
    ("system", "tools", "text"),
    [
        (None, None, "detailed thinking off"),
        ("Be kind.", None, "Be kind.\ndetailed thinking off"),
        ("detailed thinking on", None, "detailed thinking on"),
        ("So: detailed thinking off.", "", "So: detailed thinking off."),
        ("Be kind.", [{"name": "f"}], "Be kind.\n"),
        (None, "[]", ""),
    ],
)
def test_words_are_added_to_the_system_text(system, tools, text):
    row = said("a", "b", system=system, tools=tools)
    assert to_record_strict(row, LAYOUT).system == text
    assert READERS["openai"](row, LAYOUT).system == (system or "")


def test_tools_given_as_objects_become_their_json_text():
    assert to_record_strict(said("a", "b", tools=[{"name": "é"}]), LAYOUT).tools == '[{"name": "é"}]'


CALLS = [{"id": "1", "function": {"name": "f", "arguments": '{"a": 1}'}}, {"id": "2", "function": {"name": "g"}}]


def test_calls_are_the_list_of_their_functions_and_results_are_joined_in_their_order():
    row = said("a")
    row["messages"] += [
        {"role": "assistant", "content": "so", "tool_calls": CALLS},
        {"role": "tool", "content": "two", "tool_call_id": "2"},
        {"role": "tool", "content": "one", "tool_call_id": "1"},
        {"role": "assistant", "content": "b"},
    ]
    assert to_record_strict(row, LAYOUT).messages == (
        Message("user", "a"),
        Message("function", '[{"name":"f","arguments":"{\\"a\\": 1}"},{"name":"g"}]'),
        Message("observation", "two\n</tool_response>\n<tool_response>\none"),
        Message("assistant", "b"),
    )


def test_results_at_the_very_end_are_lost():
    row = said("a", "b")
    row["messages"].append({"role": "tool", "content": "1"})
    assert to_record_strict(row, LAYOUT) == ChatRecord(
        (Message("user", "a"), Message("assistant", "b")), "detailed thinking off"
    )
    with pytest.raises(RowFault):
        READERS["openai"](row, LAYOUT)


def test_a_fault_names_the_message_as_it_stands_in_the_row():
    row = said("a")
    row["messages"] += [
        {"role": "assistant", "content": None, "tool_calls": CALLS},
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "2"},
        {"role": "user", "content": "c"},
    ]
    with pytest.raises(RowFault) as fault:
        to_record_strict(row, LAYOUT)
    assert fault.value.field == "messages[4]"


@pytest.mark.parametrize("calls", [{"function": {}}, [{}], ["f"]])
def test_calls_without_a_function_are_refused(calls):
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": calls}]}
    with pytest.raises(RowFault, match="tool_calls"):
        to_record_strict(row, LAYOUT)


def test_strict_reads_the_other_formats_as_ever():
    assert {name for name in READERS if STRICT_READERS[name] is not READERS[name]} == {"openai"}
