"""Every fault of a row is told with its place; and what the readers refuse has an error, what they take has none of theirs."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datakit.validate.codes import all_codes
from datakit.validate.faults import Fault, pointer, steps_of
from datakit.validate.structure import faults_of
from registry.errors import RowFault
from registry.formats import LAYOUTS, READERS, WRITERS, detect
from registry.records import ChatRecord, Message
from tests.datakit.validate.made import GOOD, changed

# Errors of rows that can be read as records, but are of no use, or that LLaMA-Factory stops at later.
READABLE = {
    "AL003", "AL004", "AL007", "AL008", "SG016", "SG017", "OA016", "OA017", "PF004", "PF005", "KT004", "TX001", "TX003",
    "TL001", "TL002", "TL003", "TL004", "TL005", "TL009", "SG018", "OA018",
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
@settings(max_examples=20)
@given(data=st.data())
def test_a_good_row_has_no_fault(name, data):
    layout, rows = GOOD[name]
    assert faults_of(data.draw(rows), layout) == []


@pytest.mark.parametrize("name", GOOD)
@settings(max_examples=120)
@given(data=st.data())
def test_the_readers_take_a_row_exactly_where_it_has_no_error_that_they_know_of(name, data):
    layout = GOOD[name][0]
    row = data.draw(changed(name))
    errors = {fault.code for fault in faults_of(row, layout) if all_codes()[fault.code].level == "error"}
    try:
        READERS[layout.formatting](row, layout)
    except RowFault:
        assert errors
    else:
        assert errors <= READABLE or "TL012" in errors  # of whom the readers do not ask whose turn it is


def chat(*turns: tuple[str, object], keys=("from", "value"), **row):
    field = "conversations" if keys[0] == "from" else "messages"
    return {field: [dict(zip(keys, turn, strict=True)) for turn in turns], **row}


def messages(*turns: tuple[str, object], **row):
    return chat(*turns, keys=("role", "content"), **row)


H, G = ("human", "q"), ("gpt", "a")
U, A = ("user", "q"), ("assistant", "a")
CALL = ("function_call", '{"name": "look", "arguments": {}}')
LOOK = json.dumps([{"name": "look"}])
OA_CALL = {"id": "c1", "function": {"name": "look", "arguments": "{}"}}


def called(**call):
    return {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": None, "tool_calls": [{**OA_CALL, **call}]}], "tools": [{"name": "look"}]}  # fmt: skip


CASES = [
    ({"instruction": "q"}, [("AL001", "/output")]),
    ({"instruction": 7, "input": [], "output": 1.5}, [("AL002", "/instruction"), ("AL002", "/input"), ("AL002", "/output")]),
    ({"instruction": " ", "input": "", "output": "\n"}, [("AL003", "/instruction"), ("AL004", "/output")]),
    ({"instruction": "q", "output": "a", "history": "x"}, [("AL005", "/history")]),
    ({"instruction": "q", "output": "a", "history": [["q"], ["", " "], ["q", 1]]},
     [("AL006", "/history/0"), ("AL007", "/history/1/0"), ("AL008", "/history/1/1"), ("AL006", "/history/2")]),
    (chat(), [("SG003", "/conversations")]),
    ({"conversations": "x", "system": 1}, [("SG018", "/system"), ("SG002", "/conversations")]),
    ({"conversations": [1, {"value": "x"}, {"from": "gpt", "value": "a"}]},
     [("SG004", "/conversations/0"), ("SG005", "/conversations/1")]),
    (chat(H, ("asistant", "a"), ("hero", "q"), G), [("SG006", "/conversations/1"), ("SG007", "/conversations/2")]),
    (chat(G, H, H, G), [("SG008", "/conversations/0"), ("SG008", "/conversations/2")]),
    (chat(H, G, H), [("SG009", "/conversations")]),
    (chat(H, ("system", "s"), G), [("SG010", "/conversations/1")]),
    (chat(("system", "s"), ("system", "t"), H, G), [("SG011", "/conversations/1")]),
    (chat(H, ("gpt", None), ("human", 3), G), [("SG012", "/conversations/1/value"), ("SG013", "/conversations/2/value")]),
    ({"conversations": [{"from": "human", "value": "q"}, {"role": "assistant", "content": "a"}]}, [("SG014", "/conversations/1")]),
    ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a", "role": "assistant"}]}, [("SG015", "/conversations/1")]),
    (chat(("human", ""), ("gpt", " ")), [("SG016", "/conversations/0/value"), ("SG017", "/conversations/1/value")]),
    (messages(A, U), [("OA008", "/messages/0"), ("OA009", "/messages")]),
    (messages(U, ("gpt", "a")), [("OA006", "/messages/1")]),
    ({"prompt": "q", "chosen": None, "rejected": ["x"]}, [("PF001", "/chosen"), ("PF002", "/rejected")]),
    ({"prompt": "q", "chosen": "", "rejected": "b"}, [("PF004", "/chosen")]),
    ({"prompt": "q", "chosen": "a ", "rejected": "a"}, [("PF005", "/chosen")]),
    (chat(H, G, chosen={"from": "human", "value": "q"}, rejected={"from": "gpt", "value": ""}),
     [("PF006", "/conversations"), ("PF003", "/chosen"), ("PF004", "/rejected/value")]),
    ({"instruction": "q", "output": "", "kto_tag": True}, [("KT004", "/output")]),
    ({"text": None}, [("TX001", "/text")]),
    ({"text": 3}, [("TX002", "/text")]),
    ({"text": "\t"}, [("TX003", "/text")]),
    (chat(H, G, tools="{"), [("TL001", "/tools")]),
    (chat(H, G, tools='{"name": "x"}'), [("TL002", "/tools")]),
    (chat(H, G, tools='[{"name": "x"}, {}]'), [("TL003", "/tools")]),
    (chat(H, ("function_call", "look()"), tools=LOOK), [("TL004", "/conversations/1/value")]),
    (chat(H, ("function_call", '{"name": "look"}'), tools=LOOK), [("TL005", "/conversations/1/value")]),
    (chat(H, ("function_call", '<think>hm</think> [{"name": "buy", "arguments": {}}]'), tools=LOOK), [("TL006", "/conversations/1/value")]),
    (chat(H, CALL), [("TL007", "/conversations/1/value")]),
    (called(function={"name": "buy", "arguments": "{"}), [("TL009", "/messages/1/tool_calls/0/function/arguments")]),
    (called(function={"name": "look", "arguments": True}), [("TL009", "/messages/1/tool_calls/0/function/arguments")]),
    (called(function={}), [("TL005", "/messages/1/tool_calls/0")]),
    ({"messages": [{"role": "user", "content": "q", "tool_calls": 1}, {"role": "assistant", "content": "a"}]},
     [("TL012", "/messages/0"), ("OA008", "/messages/0"), ("TL008", "/messages/0/tool_calls"),
      ("TL011", "/messages/0/content"), ("OA008", "/messages/1")]),
    ({"messages": [*called()["messages"], {"role": "tool", "content": "1", "tool_call_id": "c9"}, {"role": "assistant", "content": "a"}], "tools": LOOK},
     [("TL010", "/messages/2/tool_call_id")]),
    (messages(U, A, images=["a.png"]), [("MM001", "/images")]),
    ({"conversations": [{"from": "system", "value": "s", "loss": True}, {"from": "human", "value": "q", "weight": 2}, {"from": "gpt", "value": "a", "train": "no"}]},
     [("SG019", "/conversations/0/loss"), ("SG019", "/conversations/1/weight"), ("SG019", "/conversations/2/train")]),
    ({"messages": [{"role": "user", "content": "q", "weight": 0}, {"role": "assistant", "content": "a", "weight": 0, "train": True}]}, [("OA019", "/messages/1/train")]),
    ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": -1}], "label": True}, [("OA019", "/messages/1/weight")]),
    ({"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a", "weight": 0}, "rejected": {"from": "gpt", "value": "b"}}, [("SG019", "/chosen")]),
    ({"instruction": "q <image>", "output": "a", "images": "a.png"}, []),
]  # fmt: skip


@pytest.mark.parametrize(("row", "expected"), CASES, ids=[str(found) for _, found in CASES])
def test_every_fault_of_a_row_is_told_with_its_place(row, expected):
    layout = detect(row) or next(LAYOUTS[n] for n in ("sharegpt", "openai", "alpaca", "text") if LAYOUTS[n].columns.messages in row or n == "alpaca")  # fmt: skip
    found = faults_of(row, layout)
    assert [(fault.code, fault.pointer) for fault in found] == expected
    assert {fault.code for fault in found} <= all_codes().keys()


@pytest.mark.parametrize(
    ("value", "code"), [("true", "KT002"), ("False ", "KT002"), (1, "KT003"), ("yes", "KT003"), (None, "KT001")]
)
def test_a_judgement_is_true_or_false(value, code):
    (fault,) = faults_of({"instruction": "q", "output": "a", "kto_tag": value}, LAYOUTS["kto"])
    assert (fault.code, fault.fixable) == (code, code == "KT002")


def test_text_beside_a_tool_call_is_warned_of():
    row = called()
    row["messages"][1]["content"] = "I look."
    assert [fault.code for fault in faults_of(row, LAYOUTS["openai"])] == ["TL011"]


def test_results_of_several_calls_may_follow_each_other_in_openai_rows_only():
    results = [{"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}]
    row = {**called(), "messages": [*called()["messages"], *results, {"role": "assistant", "content": "a"}]}
    assert faults_of(row, LAYOUTS["openai"]) == []
    twice = chat(H, CALL, ("observation", "1"), ("observation", "2"), G, tools=LOOK)
    assert [fault.code for fault in faults_of(twice, LAYOUTS["sharegpt"])] == ["SG008"]


_text = st.text("ab \x00\ufffd{}é", max_size=4)


@settings(max_examples=50)
@given(st.lists(st.tuples(_text, _text), min_size=1, max_size=3))
def test_a_row_has_the_same_faults_in_every_format(pairs):
    turns = [Message(role, text) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)]
    reasons = []
    for name in ("alpaca", "sharegpt", "openai"):
        row = WRITERS[name](ChatRecord(tuple(turns)))
        layout = detect(row)
        assert layout is not None
        reasons.append(sorted(fault.reason for fault in faults_of(row, layout)))
    assert reasons[0] == reasons[1] == reasons[2]


@given(st.lists(st.text("ab/~0.", max_size=4) | st.integers(0, 12)))
def test_a_pointer_leads_back_to_its_steps(steps):
    assert steps_of(pointer(*steps)) == [str(step) for step in steps]


@pytest.mark.parametrize(
    ("place", "field"),
    [("", ""), ("/output", "output"), ("/conversations/2/value", "conversations[2].value"), ("/q/text", "q.text"), ("/a~1b/0", "a/b[0]")],
)  # fmt: skip
def test_a_field_is_spelled_as_people_write_it(place, field):
    assert Fault("X", place, "").field == field
