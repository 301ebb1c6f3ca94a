"""How answers are read: JSON as it should be, wrapped, broken, cut off, hostile; and what is said of the unreadable."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datakit.augment import mending
from datakit.augment.answer import Answer
from datakit.augment.outputs import (
    OUTPUTS,
    Dialogue,
    Instruction,
    Pair,
    Score,
    Thought,
    Turn,
    Unparsable,
    Verdict,
    corrective,
)
from datakit.recipes.front_matter import OUTPUTS as NAMES


def read(output: str, text: str, *, finish: str = "stop", expects: int | None = None, thoughts: str = "") -> Any:
    return OUTPUTS[output].read(Answer(text, finish, thoughts=thoughts), expects)


def fault(output: str, text: str, *, finish: str = "stop", expects: int | None = None) -> str:
    with pytest.raises(Unparsable) as caught:
        read(output, text, finish=finish, expects=expects)
    return str(caught.value)


def test_there_is_a_reader_for_every_output_that_a_recipe_can_name():
    assert set(OUTPUTS) == set(NAMES)
    assert all(name == output.name for name, output in OUTPUTS.items())


# ---- JSON as it should be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "text", "value"),
    [
        ("texts", '{"texts": ["a", "b"]}', ["a", "b"]),
        ("pairs", '{"pairs": [{"question": "a", "answer": "b"}]}', [Pair("a", "b")]),
        ("pairs", '{"pairs": []}', []),
        ("instructions", '{"instructions": [{"instruction": "a", "input": ""}]}', [Instruction("a")]),
        (
            "dialogues",
            '{"dialogues": [{"system": "s", "turns": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]}',
            [Dialogue((Turn("user", "a"), Turn("assistant", "b")), "s")],
        ),
        ("score", '{"reason": "right", "score": 7}', Score(7, "right")),
        ("verdict", '{"reason": "shorter", "winner": "tie"}', Verdict("tie", "shorter")),
    ],
)  # fmt: skip
def test_the_form_that_was_asked_for_is_read_as_it_is(output: str, text: str, value: Any):
    assert read(output, text) == (value, False)
    assert read(output, f"```json\n{text}\n```") == (value, False)
    assert read(output, f"<think>\nA list [1] of {{things}}.\n</think>\n\n{text}") == (value, False)
    assert read(output, f'A draft: {{"texts": ["no"]}}\n</think>\n\n{text}') == (value, False)
    assert read(output, f"Here is what you [wanted]:\n\n{text}\n\nI hope that {{helps}}.") == (value, False)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text.strip())
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "texts": st.lists(TEXT, min_size=1),
    "pairs": st.lists(st.builds(Pair, TEXT, TEXT)),
    "instructions": st.lists(st.builds(Instruction, TEXT, TEXT | st.just("")), min_size=1),
    "dialogues": st.lists(
        st.builds(
            lambda pairs, system: Dialogue(
                tuple(turn for q, a in pairs for turn in (Turn("user", q), Turn("assistant", a))), system
            ),
            st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3),
            st.text(st.characters(exclude_categories=["Cs"])),
        ),
        min_size=1,
    ),
}


@pytest.mark.parametrize("output", VALUES)
@given(data=st.data(), ascii_only=st.booleans(), indent=st.sampled_from([None, 2]))
@settings(max_examples=300)
def test_the_json_of_any_value_gives_the_value_back_bare_in_fences_and_in_prose(
    output: str, data: st.DataObject, ascii_only: bool, indent: int | None
):
    value = data.draw(VALUES[output])
    spelled = json.dumps({output: msgspec.to_builtins(value)}, ensure_ascii=ascii_only, indent=indent)
    assert read(output, spelled) == (value, False)
    assert read(output, f"```json\n{spelled}\n```\n") == (value, False)
    assert read(output, f"Certainly! Here you are:\n{spelled}\nAnything else?") == (value, False)


@pytest.mark.parametrize("output", VALUES)
@given(data=st.data())
@settings(max_examples=100)
def test_an_answer_that_was_cut_off_gives_its_first_items_whole_or_nothing(output: str, data: st.DataObject):
    value = data.draw(VALUES[output])
    spelled = json.dumps({output: msgspec.to_builtins(value)}, ensure_ascii=False)
    cut = data.draw(st.integers(0, len(spelled) - 1))
    try:
        found, mended = read(output, spelled[:cut], finish="length")
    except Unparsable:
        return
    assert mended
    assert found == value[: len(found)]


def test_the_schemas_are_strict_as_openai_asks():
    def check(schema: Any) -> None:
        if schema.get("type") == "object":
            assert schema["additionalProperties"] is False
            assert schema["required"] == list(schema["properties"])
            for part in schema["properties"].values():
                check(part)
        if schema.get("type") == "array":
            check(schema["items"])

    for output in OUTPUTS.values():
        if output.schema is None:
            assert output.name in ("text", "thought")
        else:
            check(output.schema)


@pytest.mark.parametrize("output", ["texts", "pairs", "instructions", "dialogues", "score", "verdict"])
def test_the_form_that_is_shown_keeps_its_own_schema(output: str):
    import jsonschema_rs

    form = OUTPUTS[output].form
    assert jsonschema_rs.is_valid(dict(OUTPUTS[output].schema or {}), json.loads(form))
    read(output, form)


# ---- text and thought ----------------------------------------------------------------------------------------------


def test_a_text_is_the_whole_answer_without_the_reasoning_in_front():
    assert read("text", "  Yes.\n") == ("Yes.", False)
    assert read("text", "<think>\nHm.\n</think>\n\nYes.") == ("Yes.", False)
    assert read("text", "Hm.\n</think>\n\nYes.") == ("Yes.", False)  # servers that begin the reasoning themselves
    assert read("text", "Close it with </think>, then go on.") == ("Close it with </think>, then go on.", False)
    assert read("text", "First <think> a\n</think>\nb") == ("First <think> a\n</think>\nb", False)
    assert read("text", '{"a": 1}') == ('{"a": 1}', False)


def test_a_thought_is_the_reasoning_and_the_answer_wherever_the_server_puts_them():
    assert read("thought", "<think>\n2 + 2\n</think>\n\n4") == (Thought("2 + 2", "4"), False)
    assert read("thought", "4", thoughts="2 + 2\n") == (Thought("2 + 2", "4"), False)
    assert read("thought", "<think>short</think>4", thoughts="the model's own") == (Thought("short", "4"), False)


@pytest.mark.parametrize(
    ("output", "text", "message"),
    [
        ("text", " \n", "the answer is empty"),
        ("text", "<think>a</think>\n", "the answer is empty"),
        ("text", "<think>a", "<think> is never closed: </think> and the answer are missing"),
        ("thought", "4", "the reasoning is missing: <think>, the reasoning, </think>, then the answer"),
        ("thought", "<think>\n</think>4", "the reasoning is missing: <think>, the reasoning, </think>, then the answer"),
        ("thought", "<think>2 + 2</think>", "the answer after </think> is missing"),
        ("texts", "<think>a", "<think> is never closed: </think> and the answer are missing"),
        ("texts", "", "the answer is empty"),
        ("texts", "I cannot help with that.", "there is no JSON in the answer"),
        ("texts", "[1] says {name}", "there is no JSON in the answer"),
    ],
)  # fmt: skip
def test_what_holds_nothing_is_told(output: str, text: str, message: str):
    assert fault(output, text) == message


# ---- other names, other shapes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "text", "value"),
    [
        ("texts", '["a", "b"]', ["a", "b"]),
        ("texts", '{"paraphrases": ["a"], "count": 1}', ["a"]),
        ("texts", '{"texts": [{"text": "a"}]}', ["a"]),
        ("pairs", '[{"question": "a", "answer": "b"}]', [Pair("a", "b")]),
        ("pairs", '{"question": "a", "answer": "b"}', [Pair("a", "b")]),
        ("pairs", '{"Question": "a", "Answer": "b"}\n{"Q": "c", "A": "d"}', [Pair("a", "b"), Pair("c", "d")]),
        ("pairs", '{"data": [{"instruction": "a", "input": "x", "output": "b"}]}', [Pair("a\nx", "b")]),
        ("pairs", '{"data": [{"input": "a", "output": "b"}]}', [Pair("a", "b")]),
        ("instructions", '{"tasks": ["a"]}', [Instruction("a")]),
        ("instructions", '{"tasks": [{"task": "a", "input": null}]}', [Instruction("a")]),
        ("dialogues", '{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}', "a b"),
        ("dialogues", '[[{"role": "User", "content": "a"}, {"role": "Assistant", "content": "b"}]]', "a b"),
        ("dialogues", '{"dialogues": [{"messages": [{"user": "a"}, {"assistant": "b"}]}]}', "a b"),
        ("dialogues", '{"dialogues": [{"turns": [{"user": "a", "assistant": "b"}]}]}', "a b"),
        ("dialogues", '{"dialogues": [{"question": "a", "answer": "b"}]}', "a b"),
        ("score", '{"rating": "8/10", "explanation": "x"}', Score(8, "x")),
        ("score", '{"score": "8", "reason": "x"}', Score(8, "x")),
        ("score", '[{"score": 7.5, "reason": "x"}]', Score(7.5, "x")),
        ("verdict", '{"winner": "Answer B", "reason": "x"}', Verdict("B", "x")),
        ("verdict", '{"better": "a", "reason": "x"}', Verdict("A", "x")),
    ],
)  # fmt: skip
def test_common_other_names_and_shapes_are_taken(output: str, text: str, value: Any):
    expected = [Dialogue((Turn("user", "a"), Turn("assistant", "b")))] if value == "a b" else value
    assert read(output, text) == (expected, False)


def test_a_system_turn_in_front_is_the_system_prompt():
    turns = (
        '[{"role": "system", "content": "s"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]'
    )
    ((dialogue,), _) = read("dialogues", f'{{"dialogues": [{{"turns": {turns}}}]}}')
    assert (dialogue.system, len(dialogue.turns)) == ("s", 2)


# ---- broken --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[{'question': 'a', 'answer': 'b'}]", [Pair("a", "b")]),
        ("{'pairs': [{'question': 'it\\'s', 'answer': \"b\"}]}", [Pair("it's", "b")]),
        ('{"pairs": [{"question": "a", "answer": "b",},]}', [Pair("a", "b")]),
        ('{"pairs": [{"question": "a", "answer": "b"}', [Pair("a", "b")]),
        ('{"pairs": [{"question": "a\nb", "answer": "say "hi" now"}]}', [Pair("a\nb", 'say "hi" now')]),
        ('Sure:\n```json\n{"pairs": [{"question": "a" "answer": "b"}]}\n```\nHope [that] helps', [Pair("a", "b")]),
        ('{"pairs": [{“question”: “a”, “answer”: “b”}]}', [Pair("a", "b")]),
        ('{"pairs": [{"question": "\\u4f60\\u597d", "answer": "b",}]}', [Pair("你好", "b")]),
    ],
)  # fmt: skip
def test_broken_json_and_python_literals_are_mended(text: str, value: Any):
    assert read("pairs", text) == (value, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("__import__('os').system('touch EXECUTED')", "there is no JSON in the answer"),
        (
            "[{'question': __import__('os').getcwd(), 'answer': 'b'}]",
            "the JSON is broken: \"import__('os').getcwd()\" is no text in quotation marks",
        ),
        ('{"pairs": [{"question": "a", "answer": open("EXECUTED", "w")}]}', None),
        (
            '{"pairs": [{"question": "a", "answer": "half of a sen',
            'the JSON is broken: no quotation mark ends the text "half of a sen"',
        ),
        (
            r'{"pairs": [{"question": "\ud83d", "answer": "b"}]}',
            r"the JSON cannot be read: an escape such as \ud83d spells half a character; write the character itself",
        ),
    ],
)  # fmt: skip
def test_expressions_and_guesses_are_refused_and_nothing_is_executed(
    text: str, message: str | None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    told = fault("pairs", text)
    assert message is None or told == message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("output", "text", "message"),
    [
        ("pairs", '{"pairs": [{"question": "a", "answer": "b"}, {"question": "c", "answer": null}]}', "$.pairs[1].answer: text belongs here, not null"),
        ("pairs", '{"pairs": [{"question": "a"}]}', '$.pairs[0]: "answer" is missing'),
        ("pairs", '{"pairs": [{"question": "a", "answer": " "}]}', "$.pairs[0].answer: the text is empty"),
        ("pairs", '{"pairs": ["a"]}', "$.pairs[0]: an object belongs here, not text"),
        ("pairs", '{"pairs": "a"}', "$.pairs: a list belongs here, not text"),
        ("pairs", '[{"question": "a", "answer": 1}]', "$[0].answer: text belongs here, not a number"),
        ("pairs", '{"a": 1}', '$: an object with the list "pairs" belongs here'),
        ("pairs", "7", "$: an object with the list \"pairs\" belongs here"),
        ("texts", '{"texts": []}', "$.texts: the list is empty"),
        ("texts", '{"texts": ["a", ""]}', "$.texts[1]: the text is empty"),
        ("texts", '{"texts": ["a"]} or {"texts": ["b"]}', "$: the answer holds 2 lists; one is wanted"),
        ("dialogues", '{"dialogues": [{"turns": [{"role": "user", "content": "a"}]}]}', "$.dialogues[0].turns: a question and an answer are the least; there is 1 turn"),
        ("dialogues", '{"dialogues": [{"turns": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}]}', "$.dialogues[0].turns[1].role: user and assistant take turns: assistant belongs here"),
        ("dialogues", '{"dialogues": [{"turns": [{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}]}]}', '$.dialogues[0].turns[1].role: "tool" is none of the values asked for'),
        ("dialogues", '{"dialogues": [{"turns": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]}]}', "$.dialogues[0].turns: the last turn must be the assistant's"),
        ("score", '{"score": 11, "reason": "x"}', "$.score: a number from 1 to 10 belongs here"),
        ("score", '{"score": 7, "reason": ""}', "$.reason: the text is empty"),
        ("score", '{"score": "good", "reason": "x"}', "$.score: a number belongs here, not text"),
        ("score", '{"reason": "x"}', '$: an object with "score" belongs here'),
        ("score", '{"score": 7, "reason": "x"} {"score": 8, "reason": "x"}', "$: the answer holds 2 objects; one is wanted"),
        ("verdict", '{"winner": "C", "reason": "x"}', '$.winner: "C" is none of the values asked for'),
    ],
)  # fmt: skip
def test_a_wrong_part_is_told_with_its_place(output: str, text: str, message: str):
    assert fault(output, text) == message


def test_as_many_texts_as_were_given_come_back():
    assert read("texts", '{"texts": ["a", "b"]}', expects=2) == (["a", "b"], False)
    assert fault("texts", '{"texts": ["a", "b"]}', expects=3) == "$.texts: 3 texts belong here, not 2"
    assert fault("texts", '{"texts": ["a", "b', expects=2, finish="length") == "$.texts: 2 texts belong here, not 1"


# ---- cut off -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "questions"),
    [
        ('{"pairs": [{"question": "a", "answer": "b"}, {"question": "c", "ans', ["a"]),
        ('{"pairs": [{"question": "a", "answer": "b"}, {"question": "c", "answer": "d"}', ["a", "c"]),
        ('```json\n[{"question": "a", "answer": "[}"}, {"question": "c", "answer": "half', ["a"]),
        ("{'pairs': [{'question': 'a', 'answer': 'b'}, {'question': 'c', 'ans", ["a"]),
        ('{"pairs": [{"question": "a", "answer": "b"}, {"question": "c", "answer": "}\\', ["a"]),  # within an escape
    ],
)  # fmt: skip
def test_of_an_answer_that_was_cut_off_whole_items_are_kept(text: str, questions: list[str]):
    found, mended = read("pairs", text, finish="length")
    assert ([pair.question for pair in found], mended) == (questions, True)


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("pairs", '{"pairs": [{"question": "a", "ans'),
        ("texts", '{"texts": ["a'),
        ("dialogues", '{"turns": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "us'),
    ],
)  # fmt: skip
def test_a_cut_in_the_first_item_leaves_nothing(output: str, text: str):
    assert fault(output, text, finish="length") == "the answer was cut off before its first item was whole"


# ---- hostile -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("finish", ["stop", "length"])
@pytest.mark.parametrize(
    "text",
    ["[" * 50_000_000, "[" * 100_000 + "]" * 100_000, '{"a":' * 100_000, '{"texts": ' + "[" * 500 + "]" * 500 + "}", "[" * 900],
    ids=["50 MB", "100,000 nested lists", "100,000 nested objects", "500 nested lists", "900 open lists"],
)  # fmt: skip
def test_huge_and_deep_answers_are_faults_like_others(text: str, finish: str):
    assert len(fault("texts", text, finish=finish)) <= 300


@pytest.mark.parametrize("unit", ['["', "{'", '"a" ', "((", '{"a ', '[{"', "[//", "{/*", "['"])
def test_texts_that_keep_a_parser_busy_are_given_up(unit: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mending, "MOST_STEPS", 20_000)
    text = '{"texts": ["' + unit * (100_000 // len(unit))
    assert fault("texts", text) == "the JSON cannot be read: it is too broken to be mended"


@given(st.text(st.sampled_from("[]{}\"',:\\ \nab1/*#()“”`-.tfn"), max_size=200), st.sampled_from(["stop", "length"]))
@settings(max_examples=500)
def test_any_text_is_read_or_told_of_and_nothing_else(text: str, finish: str):
    for output in OUTPUTS:
        try:
            value, _ = read(output, text, finish=finish)
        except Unparsable as told:
            message = str(told)
            value = None
        else:
            message = "read"
        assert 0 < len(message) <= 300
        msgspec.json.encode(value)


# ---- asking again --------------------------------------------------------------------------------------------------


def test_the_corrective_request_shows_the_answer_what_is_wrong_and_the_form():
    messages = (("system", "s"), ("user", "u"))
    again = corrective(messages, "[1]" + "x" * 9000, "$[0]: text belongs here, not a number", "texts")
    assert again[:2] == messages
    assert again[2] == ("assistant", "[1]" + "x" * 3997 + " …")
    assert again[3][0] == "user"
    assert "$[0]: text belongs here, not a number" in again[3][1]
    assert '{"texts": ["…", "…"]}' in again[3][1]
    assert corrective(messages, " ", "the answer is empty")[2] == ("assistant", "(nothing)")
