"""What of a row is compared: columns, parts of a known format, and the texts in them."""

from __future__ import annotations

import pytest

from datakit.dedup.fields import fields_of, fields_of_others, parse_names
from registry.errors import UsageError
from registry.rows import Row

ALPACA = {"instruction": "Add", "input": "1 and 2", "output": "3", "id": "x1"}
SHAREGPT = {
    "conversations": [
        {"from": "system", "value": "be kind"},
        {"from": "human", "value": "hi"},
        {"from": "gpt", "value": "yo"},
        {"from": "human", "value": "bye"},
    ]
}
OPENAI = {
    "messages": [
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "content": "42"},
    ]
}
PREFERENCE = {"conversations": [{"from": "human", "value": "hi"}], "chosen": {"from": "gpt", "value": "yo"},
              "rejected": {"from": "gpt", "value": "no"}}  # fmt: skip
TRL = {"prompt": [{"role": "user", "content": "hi"}], "chosen": [{"role": "assistant", "content": "yo"}],
       "rejected": [{"role": "assistant", "content": "no"}]}  # fmt: skip


def fields(row, *names):
    return fields_of(names, [Row("a", 1, row)])


@pytest.mark.parametrize(
    ("row", "question", "answer"),
    [
        (ALPACA, ["Add", "1 and 2"], ["3"]),
        (ALPACA | {"history": [["q1", "a1"]]}, ["Add", "1 and 2", "q1"], ["3", "a1"]),
        (SHAREGPT, ["hi", "bye"], ["yo"]),
        (OPENAI, ["hi", "42"], ["{}", "f"]),
        (PREFERENCE, ["hi"], ["yo", "no"]),
        (TRL, ["hi"], ["yo", "no"]),
        ({"instruction": "a", "chosen": "b", "rejected": "c"}, ["a"], ["b", "c"]),
        ({"text": "all of it"}, ["all of it"], []),
    ],
)
def test_question_and_answer_of_known_formats(row, question, answer):
    assert fields(row, "question").texts(row) == question
    assert fields(row, "answer").texts(row) == answer
    assert sorted(fields(row).texts(row)) == sorted(question + answer)
    assert sorted(fields(row, "text").texts(row)) == sorted(question + answer) or "text" in row


def test_the_label_and_the_rejected_answer_mark_the_words_of_whole_rows():
    feedback = {"instruction": "q", "output": "a", "kto_tag": True}
    assert fields(feedback).mark(feedback) == (1, 0)
    assert fields(feedback).mark(feedback | {"kto_tag": False}) == (2, 0)
    assert fields(feedback).mark(feedback | {"kto_tag": "?"}) == (0, 0)
    for row in (PREFERENCE, TRL):
        assert fields(row).mark(row) == (0, 1)
        assert fields(row).texts(row)[-1] == "no"
    assert fields(ALPACA).mark(ALPACA) == (0, 0)
    assert fields(PREFERENCE, "chosen").mark(PREFERENCE) == (0, 0)


def test_a_part_is_compared_as_convert_would_join_it():
    assert fields(ALPACA, "question").value(ALPACA) == ["Add\n1 and 2"]
    joined = {"conversations": [{"from": "human", "value": "Add\n1 and 2"}, {"from": "gpt", "value": "3"}]}
    assert fields(joined, "question").value(joined) == ["Add\n1 and 2"]


def test_a_column_of_that_name_comes_before_the_part():
    row = {"question": "Q", "instruction": "I", "output": "O"}
    assert fields(row, "question").value(row) == ["Q"]
    assert fields(row, "question").columns == ("question",)
    assert fields(ALPACA, "question").columns == ()


def test_dots_reach_in_and_rows_without_any_of_the_fields_have_no_value():
    row = {"meta": {"lang": "en", "tags": ["a", "b"]}}
    assert fields(row, "meta.lang", "meta.none").value(row) == ["en", None]
    assert fields(row, "meta.tags").texts(row) == ["a", "b"]
    assert fields(row, "meta.none").value(row) is None
    assert fields(ALPACA, "question").value({"output": "x"}) is None


def test_the_whole_row_is_equal_by_all_of_it_and_near_by_its_text():
    assert fields(ALPACA).value(ALPACA) == ALPACA
    assert fields(ALPACA).texts_named == "question and answer"
    unknown = {"b": "two", "a": ["one", {"x": "three"}], "n": 5, "e": ""}
    assert fields(unknown).texts(unknown) == ["one", "three", "two"]
    assert fields(unknown).texts_named == "all text"


def test_roles_are_no_text_of_a_column_of_turns():
    assert fields(SHAREGPT, "conversations").texts(SHAREGPT) == ["be kind", "hi", "yo", "bye"]


def test_rows_of_another_kind_are_compared_by_all_their_text():
    row = Row("e", 1, {"query": "Q", "gold": "A"})
    assert fields_of_others(("instruction",), [row]).texts(row.data) == ["A", "Q"]
    assert fields_of_others(("query",), [row]).texts(row.data) == ["Q"]


@pytest.mark.parametrize("bad", [{"conversations": "x"}, {"conversations": [1, None, {"from": "human"}]}, {}])
def test_rows_that_are_not_as_the_first_ones_give_what_they_have(bad):
    assert fields(SHAREGPT, "question").texts(bad) == ([] if "x" not in bad.values() else ["x"])


def test_names_of_fields():
    assert parse_names(None) == ()
    assert parse_names("a, b.c") == ("a", "b.c")
    for bad in ("a,,b", "", "a,a"):
        with pytest.raises(UsageError):
            parse_names(bad)
