"""Honest answers have the form, the number and the language that the prompt asks for, and are varied enough to keep."""

from __future__ import annotations

import json

import pytest

from datakit.augment.answer import Answer
from datakit.augment.outputs import OUTPUTS
from datakit.recipes.example import example_values
from datakit.recipes.recipe import languages_of, load_recipe, recipe_names
from tests.datakit.faults.asked import Asked, answer
from tests.datakit.faults.wanted import DEFAULT_ITEMS, language_of, numbers_of, wanted


def said(content: str, *, times: int = 1, **body) -> str:
    messages = [{"role": "user", "content": content}]
    asked = Asked({"model": "m", "messages": messages, **body}, "openai", content.encode(), times)
    return json.loads(answer(asked).body)["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("prompt", "items", "turns"),
    [
        ("Write 5 new dialogues.", 5, 0),
        ("Write three short, friendly pairs.", 3, 0),
        ("Number of texts: 7. Keep it in 2 steps.", 7, 0),
        ("Answer one of the questions with 4 rows.", 4, 0),
        ("A conversation of 3 exchanges.", 0, 3),
        ("Translate each of the 12 texts below into Chinese.", 12, 0),
        ("Version 1.5 of 99 texts", 0, 0),
        ("请写三个问答对。", 3, 0),
        ("写 10 条新的指令", 10, 0),
        ("改写成 4 轮对话，一共 2 段", 2, 4),
        ("No number here.", 0, 0),
        ("Two ways there are.\nAnswer: 7\nNew conversations wanted: 5\nExchanges wanted: 4", 5, 4),
        ("一问一答，共有两种。\n需要的新问法数量：6\n需要的轮数：3\n", 6, 3),
        ("Texts to translate into Chinese: 12", 12, 0),
    ],
)
def test_numbers_are_read_from_the_prompt(prompt: str, items: int, turns: int):
    assert numbers_of(prompt) == (items, turns)


@pytest.mark.parametrize(
    ("prompt", "language"),
    [
        ("Explain tides.", "en"),
        ("请解释潮汐。", "zh"),
        ("Translate the 2 texts into Chinese: hello, bye", "zh"),
        ("请把下面 2 条文本翻译成英文：你好", "en"),
        ("把 JSON 里的 text 改写一下，保持原意不变", "zh"),
    ],
)
def test_the_language_is_that_of_the_prompt_unless_it_names_another(prompt: str, language: str):
    assert wanted([{"role": "user", "content": prompt}]).language == language
    assert language_of(said(prompt)) == language


def test_each_form_has_its_keys():
    texts = json.loads(said('Write 4 texts: {"texts": ["..."]}'))
    assert len(texts["texts"]) == 4
    pairs = json.loads(said('Write 2 pairs: {"pairs": [{"question": "...", "answer": "..."}]}'))
    assert [set(pair) for pair in pairs["pairs"]] == [{"question", "answer"}] * 2
    instructions = json.loads(said('Write tasks: {"instructions": [{"instruction": "...", "input": ""}]}'))
    assert [set(one) for one in instructions["instructions"]] == [{"instruction", "input"}] * DEFAULT_ITEMS
    dialogues = json.loads(said('Write 2 dialogues of 3 exchanges: {"dialogues": [{"turns": []}]}'))
    roles = [[turn["role"] for turn in one["turns"]] for one in dialogues["dialogues"]]
    assert roles == [["user", "assistant"] * 3] * 2
    score = json.loads(said('Judge: {"score": 7, "reason": "..."}'))
    assert 1 <= score["score"] <= 10
    assert score["reason"]
    verdict = json.loads(said('Compare: {"winner": "A", "reason": "..."}'))
    assert verdict["winner"] in ("A", "B", "tie")


SHIPPED = [(name, language) for name in recipe_names() for language in languages_of(name)]


@pytest.mark.parametrize(("name", "language"), SHIPPED)
def test_every_shipped_recipe_is_answered_in_the_form_number_and_language_it_asks_for(name: str, language: str):
    recipe = load_recipe(name, language)
    for prompt in (recipe.prompt, *recipe.steps.values()):
        values = example_values(
            prompt, {"to": "Chinese" if language == "zh" else "English"} if name == "translate" else {}
        )
        messages = [{"role": role, "content": text} for role, text in prompt.render(values)]
        asked = Asked({"model": "m", "messages": messages}, "openai", name.encode())
        content = json.loads(answer(asked).body)["choices"][0]["message"]["content"]
        value, mended = OUTPUTS[prompt.output].read(Answer(content))
        assert not mended
        if name in ("expand", "paraphrase", "qa-from-text", "self-instruct", "persona"):
            assert len(value) == prompt.per_call
        elif name == "translate":
            assert len(value) == 3
        elif name in ("evolve", "multi-turn"):
            assert len(value) == 1
        if name == "multi-turn":
            assert len(value[0].turns) == 2 * prompt.inputs["turns"]
        assert language_of(content) == language


def test_thoughts_come_where_the_prompt_speaks_of_them_and_plain_text_elsewhere():
    assert said("Think first, between <think> and </think>.").startswith("<think>\n")
    assert not said("Answer the question.").startswith(("{", "<"))


def test_a_schema_beside_the_prompt_decides():
    pair = {"type": "object", "properties": {"question": {"type": "string"}, "answer": {"type": "string"}}}
    schema = {"type": "object", "properties": {"pairs": {"type": "array", "items": pair, "minItems": 6}}}
    form = {"type": "json_schema", "json_schema": {"name": "pairs", "schema": schema}}
    assert len(json.loads(said("Go.", response_format=form))["pairs"]) == 6


def test_a_schema_that_is_not_known_is_kept_all_the_same():
    schema = {
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "kind": {"enum": ["a", "b"]},
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
            "stars": {"type": "integer", "minimum": 3, "maximum": 5},
            "sure": {"type": "boolean"},
            "note": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        },
    }
    got = json.loads(said("Go.", response_format={"type": "json_schema", "json_schema": {"schema": schema}}))
    assert list(got) == ["title", "kind", "tags", "stars", "sure", "note"]
    assert (got["kind"] in "ab", len(got["tags"]), 3 <= got["stars"] <= 5, got["note"]) == (True, 2, True, None)


def test_the_same_is_said_to_the_same_and_another_thing_when_asked_again():
    assert said("Tell me.") == said("Tell me.")
    assert said("Tell me.") != said("Tell me.", times=2)
    assert said("Tell me.") != said("Tell me!")


def test_max_tokens_is_kept():
    asked = Asked({"model": "m", "messages": [{"role": "user", "content": "Talk."}], "max_tokens": 5}, "openai", b"x")
    body = json.loads(answer(asked).body)
    assert (body["choices"][0]["finish_reason"], body["usage"]["completion_tokens"]) == ("length", 5)


def test_several_choices_differ():
    asked = Asked({"model": "m", "messages": [{"role": "user", "content": "Talk."}], "n": 3}, "openai", b"x")
    choices = json.loads(answer(asked).body)["choices"]
    assert len({choice["message"]["content"] for choice in choices}) == 3


@pytest.mark.parametrize("prompt", ['Write 5 pairs about N: {"pairs": []}', '写 5 个关于 N 的问答对：{"pairs": []}'])
def test_answers_are_varied_enough_for_filters_of_near_duplicates(prompt: str):
    """Of 500 pairs, fewer than 5% share half of their shingles (3 words, or 5 characters) with an earlier one."""
    found = []
    for number in range(100):
        got = said(prompt.replace("N", str(number)))
        found += [pair["question"] + " " + pair["answer"] for pair in json.loads(got)["pairs"]]
    assert len(set(found)) == 500

    def shingles(text: str) -> set:
        parts, size = (text.split(), 3) if text.isascii() else (list(text), 5)
        return {tuple(parts[i : i + size]) for i in range(len(parts) - size + 1)}

    sets = [shingles(text) for text in found]
    near = sum(any(len(a & b) >= 0.5 * len(a | b) for b in sets[:i] if a & b) for i, a in enumerate(sets))
    assert near < 25
