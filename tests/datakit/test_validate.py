"""datakit validate: each fault told by row, field and reason, and each row either clean or rejected."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakit.validate import faults_of, validate_rows
from datakit.validate.structure import CHECKS
from registry.formats import LAYOUTS, WRITERS, detect
from registry.records import ChatRecord, FeedbackRecord, Message, PreferenceRecord, TextRecord

GOOD = {"instruction": "How long?", "input": "", "output": "Two days."}


def chat(*texts: str, system: str = "") -> ChatRecord:
    roles = ("user", "assistant")
    return ChatRecord(tuple(Message(roles[i % 2], text) for i, text in enumerate(texts)), system)


def pair(chosen: str, rejected: str) -> PreferenceRecord:
    return PreferenceRecord((Message("user", "q"),), Message("assistant", chosen), Message("assistant", rejected))


@pytest.mark.parametrize(
    ("check", "record", "field", "reason", "level"),
    [
        ("blank_text", TextRecord(" \n"), "text", "the text is empty", "error"),
        ("blank_question", chat("", "a"), "messages[0]", "the question is empty", "error"),
        ("blank_answer", chat("q", " \t"), "messages[1]", "the answer is empty", "error"),
        ("blank_answer", chat("q", "", "r", "b"), "messages[1]", "the answer is empty", "error"),
        ("blank_answer", FeedbackRecord(chat("q", "").messages, True), "messages[1]", "the judged answer is empty", "error"),
        ("blank_answer", pair("", "b"), "chosen", "the chosen answer is empty", "error"),
        ("blank_answer", pair("a", " "), "rejected", "the rejected answer is empty", "error"),
        ("equal_answers", pair("same", "same "), "chosen", "chosen and rejected are the same", "error"),
        ("placeholders", chat("q", "I am {{ name }}."), "messages[1]", "a {{placeholder}} is left unfilled", "warning"),
        ("replacement_characters", chat("q\ufffd", "a"), "messages[0]", "holds U+FFFD: text was decoded wrongly before", "warning"),
        ("lone_surrogates", chat("q", "a", system="\udc00"), "system", "holds a lone surrogate (half of a character)", "error"),
        ("control_characters", TextRecord("a\x00b"), "text", "holds NUL or other control characters", "warning"),
    ],
)  # fmt: skip
def test_each_check_finds_its_fault(check, record, field, reason, level):
    (fault,) = CHECKS[check](record)
    assert (fault.field, fault.reason, fault.level) == (field, reason, level)
    assert [name for name, other in CHECKS.items() if other(record)] == [check]


@pytest.mark.parametrize(
    "record",
    [
        TextRecord("Tabs\tand\nbreaks\r\nare text, and so are {braces}, { { x } } and 👍🏽."),
        chat("q", "a", "r", "b", system=""),
        ChatRecord(
            (Message("user", "q"), Message("function", "{}"), Message("observation", ""), Message("assistant", "a"))
        ),
        pair("a", "b"),
        FeedbackRecord(chat("q", "a").messages, False),
    ],
)
def test_good_records_have_no_fault(record):
    assert [fault for check in CHECKS.values() for fault in check(record)] == []


_text = st.text("ab \x00\ufffd{}é", max_size=4)


@given(st.lists(st.tuples(_text, _text), min_size=1, max_size=3), st.sampled_from(["alpaca", "sharegpt", "openai"]))
def test_a_row_has_the_same_faults_in_every_format(pairs, name):
    record = chat(*(text for turn in pairs for text in turn))
    row = WRITERS[name](record)
    layout = detect(row)
    assert layout is not None
    found = sorted((fault.reason, fault.level) for fault in faults_of(row, layout))
    assert found == sorted((f.reason, f.level) for check in CHECKS.values() for f in check(record))


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"instruction": "q", "output": ""}, "output"),
        ({"instruction": "", "input": "", "output": "a"}, "instruction"),
        ({"instruction": "q", "output": "a", "history": [["b", ""]]}, "history[0][1]"),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": ""}]}, "conversations[1].value"),
        ({"messages": [
            {"role": "system", "content": "s"}, {"role": "user", "content": ""}, {"role": "assistant", "content": "a"}
        ]}, "messages[1].content"),
        ({"prompt": "q", "chosen": "", "rejected": "b"}, "chosen"),
        ({"text": ""}, "text"),
    ],
)  # fmt: skip
def test_fields_are_called_as_the_file_calls_them(row, field):
    layout = detect(row)
    assert layout is not None
    assert [fault.field for fault in faults_of(row, layout)] == [field]


def test_clean_gets_good_rows_unchanged_and_rejects_the_others(datakit, write_rows, read_rows_back):
    rows = [
        GOOD | {"id": 1},
        {"instruction": "q", "output": ""},
        GOOD | {"output": "{{name}}"},
        {"instruction": "q", "output": 7},
    ]
    write_rows("in.jsonl", *rows)
    ran = datakit("validate", "in.jsonl", "--clean", "clean.jsonl")
    assert ran.code == 1
    assert read_rows_back("clean.jsonl") == [rows[0], rows[2]]
    rejects = read_rows_back("clean.jsonl.rejects.jsonl")
    assert [(r["row"], r["field"], r["reason"], json.loads(r["raw"])) for r in rejects] == [
        (2, "output", "the answer is empty", rows[1]),
        (4, "output", "text belongs here, not a number (7)", rows[3]),
    ]


def test_without_clean_and_rejects_nothing_is_written(datakit, write_rows, tmp_path):
    write_rows("in.jsonl", {"instruction": "", "output": ""})
    assert datakit("validate", "in.jsonl").code == 1
    assert [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]


def test_rejects_alone_can_be_asked_for(datakit, write_rows, read_rows_back):
    write_rows("in.jsonl", GOOD, {"instruction": "q", "output": ""})
    datakit("validate", "in.jsonl", "--rejects", "bad.jsonl")
    assert [reject["row"] for reject in read_rows_back("bad.jsonl")] == [2]


def test_warnings_alone_exit_with_0(datakit, write_rows):
    write_rows("in.jsonl", GOOD | {"output": "I am {{name}}"})
    ran = datakit("validate", "in.jsonl", "--json")
    assert (ran.code, ran.json["rows_with_warnings"], ran.json["rejected"]) == (0, 1, {})


def test_json_holds_each_kind_of_fault_with_its_first_example(datakit, write_rows):
    write_rows("in.jsonl", GOOD, *({"instruction": "q", "output": value} for value in (5, "", 6, "")))
    found = datakit("validate", "in.jsonl", "--json").json
    assert (found["format"], found["rows_in"], found["rows_out"]) == ("alpaca (chat)", 5, 1)
    assert found["faults"] == [
        {"reason": "text belongs here, not a number (5)", "level": "error", "count": 2,
         "file": "in.jsonl", "row": 2, "field": "output", "value": "5"},
        {"reason": "the answer is empty", "level": "error", "count": 2,
         "file": "in.jsonl", "row": 3, "field": "output", "value": ""},
    ]  # fmt: skip


def test_the_report_for_people_is_a_table_on_stdout(datakit, write_rows):
    write_rows("in.jsonl", GOOD, {"instruction": "q", "output": "\x1b[2J{{x}}"}, {"instruction": "q", "output": ""})
    assert datakit("validate", "in.jsonl", "--quiet").out == (
        "format alpaca (chat)\n"
        "3 rows: 2 good (1 of them with warnings), 1 with errors\n"
        "\n"
        "count  level    field   reason                                 first at\n"
        "    1  error    output  the answer is empty                    in.jsonl, row 3\n"
        "    1  warning  output  a {{placeholder}} is left unfilled     in.jsonl, row 2\n"
        "         e.g. {{x}}\n"
        "    1  warning  output  holds NUL or other control characters  in.jsonl, row 2\n"
        "         e.g. \\x1b[2J{{x}}\n"
    )


def test_a_mapping_tells_the_parts_and_faults_name_the_columns(datakit, write_rows):
    write_rows("in.jsonl", {"q": {"text": "Hi"}, "a": ""})
    found = datakit("validate", "in.jsonl", "--map", "instruction=q.text", "--map", "output=a", "--json").json
    assert [fault["field"] for fault in found["faults"]] == ["a"]


ROWS_OF = {
    "pt": {"text": "t"},
    "sft": GOOD,
    "dpo": {"instruction": "q", "input": "", "chosen": "a", "rejected": "b"},
    "kto": GOOD | {"kto_tag": True},
}


@pytest.mark.parametrize("stage", ["pt", "sft", "rm", "dpo", "kto"])
@pytest.mark.parametrize("rows_of", ROWS_OF)
def test_a_stage_takes_rows_of_its_kind_and_refuses_all_others_as_a_whole(datakit, write_rows, stage, rows_of):
    write_rows("in.jsonl", ROWS_OF[rows_of])
    ran = datakit("validate", "in.jsonl", "--stage", stage)
    if stage == rows_of or (stage, rows_of) in (("rm", "dpo"), ("pt", "sft")):  # a chat's first question is a text
        assert ran.code == 0
    else:
        assert ran.code == 2
        assert f"stage {stage} learns from" in ran.err
        assert f"--stage {'rm or dpo' if rows_of == 'dpo' else rows_of}" in ran.err


def test_an_unknown_stage_or_format_gets_the_nearest_name(datakit, write_rows):
    write_rows("in.jsonl", GOOD)
    assert 'Did you mean "sft"?' in datakit("validate", "in.jsonl", "--stage", "sftt").err
    assert 'Did you mean "sharegpt"?' in datakit("validate", "in.jsonl", "--format", "sharegtp").err


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_every_named_format_has_a_good_row(write_rows, name):
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    row = {
        "alpaca": GOOD, "text": ROWS_OF["pt"], "preference": ROWS_OF["dpo"], "kto": ROWS_OF["kto"],
        "sharegpt": {"conversations": turns},
        "openai": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    }[name]  # fmt: skip
    assert validate_rows([write_rows("in.jsonl", row)], format_name=name).exit_code == 0
