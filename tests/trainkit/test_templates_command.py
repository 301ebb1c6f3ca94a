"""trainkit templates: all of them in a table, and one with a conversation that shows what is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from registry.templates import load_template, template_names
from trainkit.templates_command import as_text, describe, facts_of, notes_of

Run = Callable[..., Any]


def test_the_table_has_a_line_for_each_template(trainkit: Run) -> None:
    ran = trainkit("templates")
    assert ran.code == 0
    head, *lines = ran.out.splitlines()
    assert head.split()[:3] == ["template", "also", "system"]
    assert [line.split()[0] for line in lines] == template_names()
    llama2 = next(line for line in lines if line.startswith("llama2 "))
    assert "in user" in llama2
    assert len({line.index("own turn") for line in lines if "own turn" in line}) == 1  # in columns


def test_the_facts_of_a_template(trainkit: Run) -> None:
    found = {facts["name"]: facts for facts in trainkit("templates", "--json").json["templates"]}
    assert len(found) == 121
    assert found["llama3"] == {
        "name": "llama3", "aliases": [], "system": "turn of its own", "tool_format": "llama3", "thinking": False,
        "end": "first stop word", "stop_words": ["<|eot_id|>", "<|eom_id|>"], "default_system": "", "media": "",
        "models": ["Llama-3", "Llama-3.1", "Llama-3.2", "Llama-3.3", "MobileLLM-R1"],
    }  # fmt: skip
    assert (found["gemma4"]["aliases"], found["gemma4n"]["aliases"]) == (["gemma4n"], ["gemma4"])
    assert (found["falcon"]["end"], found["vicuna"]["end"]) == ("added at the very end", "tokenizer's")


def test_every_model_family_names_a_template_that_is_there() -> None:
    assert all(facts_of(name)["name"] == name for name in template_names())
    assert sum(bool(facts_of(name)["models"]) for name in template_names()) > 90


def test_a_template_is_shown_with_what_is_trained_between_brackets(trainkit: Run) -> None:
    ran = trainkit("templates", "default", "--system", "")
    assert ran.code == 0
    assert ran.out.endswith(
        "Human: Can the boat go out?{eos_token}\nAssistant:[[No: it blows with 40 knots.{eos_token}\n"
        "]]Human: And tomorrow?{eos_token}\nAssistant:[[Ask me at six.{eos_token}\n]]\n"
    )


def test_an_end_that_is_added_last_is_shown(trainkit: Run) -> None:
    assert trainkit("templates", "bailing").out.endswith("<role>ASSISTANT</role>[[Ask me at six.{eos_token}]]\n")


def test_colour_stands_for_the_brackets_on_a_terminal() -> None:
    text = as_text(describe("chatml", system="", tools=False, thinking=True), colour=True)
    assert "assistant\n\x1b[32mAsk me at six.<|im_end|>\n\x1b[0m" in text


@pytest.mark.parametrize(
    ("thinking", "spelled"),
    [
        ("true", "assistant\n[[<think>\n\n</think>\n\nAsk me at six."),
        ("false", "assistant\n<think>\n\n</think>\n\n[[Ask me at six."),
        ("null", "assistant\n<think>\n\n</think>\n\n[[Ask me at six."),
    ],
)
def test_the_thinking_switch_moves_the_empty_thought(trainkit: Run, thinking: str, spelled: str) -> None:
    found = trainkit("templates", "qwen3", "--thinking", thinking).out
    assert spelled in found
    assert ("The gauge says" in found) == (thinking != "false")


def test_tools_are_shown_where_the_template_has_a_syntax_of_its_own(trainkit: Run) -> None:
    call = '[[<tool_call>\n{"name": "read_gauge", "arguments": {"gauge": "wind"}}\n</tool_call>'
    assert call in trainkit("templates", "qwen").out
    assert call not in trainkit("templates", "qwen", "--no-tools").out
    assert "Action: read_gauge" not in trainkit("templates", "chatml").out
    assert "Action: read_gauge" in trainkit("templates", "chatml", "--tools").out


def test_the_json_has_every_slot(trainkit: Run) -> None:
    (first, *_) = trainkit("templates", "zephyr", "--system", "", "--json").json["turns"]
    assert first[:2] == [
        {"text": "<|system|>\nYou are Zephyr, a helpful assistant.", "trained": False},
        {"token": "eos_token", "trained": False},
    ]
    assert first[-2:] == [
        {"text": "No: it blows with 40 knots.", "trained": True},
        {"token": "eos_token", "trained": True},
    ]


@pytest.mark.parametrize("name", template_names())
@pytest.mark.parametrize("thinking", [True, False, None])
def test_every_template_can_be_shown(name: str, thinking: bool | None) -> None:
    tools = load_template(name).tool_format is not None
    text = as_text(describe(name, system="Be kind.", tools=tools, thinking=thinking), colour=False)
    assert "Be kind." in text
    assert ("read_gauge" in text) == tools
    assert text.count("[[") == text.count("]]") >= 2


def test_the_notes_say_what_surprises() -> None:
    assert notes_of(load_template("falcon_h1")) == ["generation also stops at <|im_end|>, <|end_of_text|>"]
    assert [note.split(":")[0] for note in notes_of(load_template("qwen"))] == [
        "a row without a system text gets",
        "<|im_end|> becomes the tokenizer's end of sequence",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("qwen-3",), 'unknown template "qwen-3"'),
        (("qwen", "--thinking", "maybe"), "--thinking is true, false or null"),
    ],
)
def test_what_is_wrong_is_named(trainkit: Run, arguments: tuple[str, ...], message: str) -> None:
    ran = trainkit("templates", *arguments)
    assert ran.code == 2
    assert message in ran.err
