"""Which layout rows have: named, detected, or mapped by hand."""

from __future__ import annotations

import pytest

from datakit.layout import (
    ColumnWatch,
    describe_format,
    lookup,
    peek,
    resolve_conversations,
    resolve_layout,
    used_columns,
)
from registry.errors import UsageError
from registry.rows import BadRow, Row

TURNS = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
ROLES = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def resolve(name, mapping, *rows):
    layout = resolve_layout(name, mapping, [Row("a.jsonl", n, row) for n, row in enumerate(rows, start=1)])
    assert layout is not None
    return describe_format(layout), used_columns(layout)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"instruction": "", "output": ""}, "alpaca (chat)"),
        ({"prompt": "", "response": ""}, "alpaca (chat)"),
        ({"conversations": TURNS}, "sharegpt (chat)"),
        ({"messages": ROLES}, "openai (chat)"),
        ({"text": ""}, "alpaca (text)"),
        ({"prompt": "", "chosen": "", "rejected": ""}, "alpaca (preference)"),
        ({"messages": ROLES, "chosen": {}, "rejected": {}}, "sharegpt (preference)"),
        ({"messages": ROLES, "label": True}, "sharegpt (feedback)"),
        ({"instruction": "", "output": "", "kto_tag": False}, "alpaca (feedback)"),
    ],
)
def test_formats_are_told_by_their_fields(row, expected):
    assert resolve("auto", {}, row)[0] == expected


def test_optional_parts_are_looked_for_though_the_first_row_has_none():
    assert resolve("auto", {}, {"instruction": "", "output": ""})[1] == {
        "prompt": "instruction", "query": "input", "response": "output", "history": "history", "system": "system", "tools": "tools"
    }  # fmt: skip


def test_a_mapping_alone_means_what_it_lists():
    row = {"question": "", "answer": "", "input": "of another kind", "system": "x"}
    assert resolve("auto", {"instruction": "question", "output": "answer"}, row) == (
        "alpaca (chat)", {"prompt": "question", "response": "answer"}
    )  # fmt: skip


def test_a_mapping_overrides_the_detected_parts_one_by_one():
    row = {"instruction": "", "output": "", "better_output": "", "system": ""}
    assert resolve("auto", {"output": "better_output"}, row)[1] == {
        "prompt": "instruction", "query": "input", "response": "better_output", "history": "history", "system": "system",
        "tools": "tools",
    }  # fmt: skip


@pytest.mark.parametrize(("turns", "expected"), [(TURNS, "sharegpt (chat)"), (ROLES, "openai (chat)")])
def test_mapped_messages_are_spelled_as_their_first_row_spells_them(turns, expected):
    found, parts = resolve("auto", {"messages": "chat.turns"}, {"chat": {"turns": turns}})
    assert (found, parts["messages"]) == (expected, "chat.turns")


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({"text": "body"}, "alpaca (text)"),
        ({"prompt": "body"}, "alpaca (text)"),
        ({"instruction": "body", "chosen": "good", "rejected": "bad"}, "alpaca (preference)"),
        ({"instruction": "body", "output": "good", "kto_tag": "ok"}, "alpaca (feedback)"),
    ],
)
def test_the_parts_that_are_mapped_tell_the_kind(mapping, expected):
    assert resolve("auto", mapping, {"body": "", "good": "", "bad": "", "ok": True})[0] == expected


@pytest.mark.parametrize(
    ("name", "mapping", "row", "told"),
    [
        ("auto", {"instruction": "q"}, {"q": ""}, "no answer"),
        ("auto", {"instrction": "q"}, {"q": ""}, 'Did you mean "instruction"'),
        ("auto", {"instruction": "q", "prompt": "p"}, {"q": "", "p": ""}, "mapped twice"),
        ("auto", {"messages": "m", "output": "o"}, {"m": [], "o": ""}, "cannot go together"),
        ("auto", {}, {"question": "", "answer": ""}, "--map instruction=question --map output=answer"),
        ("auto", {"system": "s"}, {"s": "", "x": ""}, "no known format: s, x"),
        ("alpcaa", {}, {"a": ""}, 'Did you mean "alpaca"'),
        ("sharegpt", {}, {"instruction": "", "output": ""}, "They look like alpaca (chat)"),
        ("alpaca", {}, {"frage": "", "antwort": ""}, "no known format: frage, antwort"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_way_out(name, mapping, row, told):
    with pytest.raises(UsageError) as error:
        resolve(name, mapping, row)
    assert told in str(error.value)


def test_a_named_format_is_fitted_to_what_the_rows_call_their_columns():
    assert resolve("alpaca", {}, {"prompt": "", "completion": ""})[1]["response"] == "completion"
    assert resolve("sharegpt", {}, {"messages": ROLES}) == (
        "sharegpt (chat)", {"messages": "messages", "system": "system", "tools": "tools"}
    )  # fmt: skip
    assert resolve("alpaca", {}, {"instruction": "", "output": "", "kto_tag": True})[0] == "alpaca (chat)"


def test_peeking_loses_no_row():
    rows = [BadRow("a", 1, "", ""), Row("a", 2, {"x": 1}), Row("a", 3, {"text": "t"}), Row("a", 4, {"text": "u"})]
    head, again = peek(iter(rows))
    assert head == rows[1:3]
    assert list(again) == rows


def test_dots_reach_into_objects_unless_a_column_has_that_very_name():
    assert lookup({"a": {"b": 1}}, "a.b") == 1
    assert lookup({"a.b": 2, "a": {"b": 1}}, "a.b") == 2
    assert lookup({"a": [1]}, "a.b", "none") == "none"


@pytest.mark.parametrize(
    ("name", "value"),
    [("m.0.content", "x"), ("m.-1.content", "y"), ("m.2.content", "none"), ("m.-3", "none"), ("m.x", "none"), ("m.0.0", "none")],
)  # fmt: skip
def test_numbers_reach_into_lists_from_either_end(name, value):
    assert lookup({"m": [{"content": "x"}, {"content": "y"}]}, name, "none") == value


def test_a_number_may_also_be_the_key_of_an_object():
    assert lookup({"m": {"0": "x"}}, "m.0") == "x"


@pytest.mark.parametrize(
    ("name", "mapping", "row", "kind"),
    [
        ("auto", {}, {"chosen": ROLES, "rejected": ROLES}, "preference"),
        ("auto", {}, {"prompt": "a", "chosen": ROLES, "rejected": ROLES, "messages": ROLES}, "preference"),
        ("preference", {}, {"chosen": ROLES, "rejected": ROLES}, "preference"),
        ("auto", {"chosen": "x.good", "rejected": "x.bad"}, {"x": {"good": ROLES, "bad": ROLES}}, "preference"),
        ("auto", {}, {"prompt": ROLES, "completion": ROLES, "label": True}, "feedback"),
        ("auto", {}, {"prompt": ROLES, "completion": ROLES}, "chat"),
        ("kto", {}, {"prompt": ROLES, "completion": ROLES}, None),
        ("sharegpt", {}, {"chosen": ROLES, "rejected": ROLES}, None),
        ("auto", {"text": "chosen"}, {"chosen": ROLES, "rejected": ROLES}, None),
        ("auto", {}, {"instruction": "", "output": ""}, None),
    ],
)
def test_whole_conversations_in_chosen_and_rejected_are_found(name, mapping, row, kind):
    layout = resolve_conversations(name, mapping, [Row("a.jsonl", 1, row)])
    assert (layout and layout.kind) == kind


def test_the_columns_listed_in_an_error_have_an_end():
    watch = ColumnWatch.of({"x": "late"})
    watch.look(dict.fromkeys(map(str, range(1000))))
    with pytest.raises(UsageError, match="and 950 more"):
        watch.check("a.jsonl")


def test_a_mapped_column_may_come_late_but_not_never():
    watch = ColumnWatch.of({"x": "late", "y": "a.b"})
    watch.look({"a": {"b": None}})
    with pytest.raises(UsageError, match='the column "late", and no row has it'):
        watch.check("a.jsonl")
    watch.look({"late": 1})
    watch.check("a.jsonl")
