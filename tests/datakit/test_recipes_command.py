"""datakit recipes: the list, one recipe in words with its prompt, both as JSON, and files of the user's."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from datakit.commands.recipes import recipes as command
from datakit.recipes.recipe import load_recipe, recipe_names
from registry.command import run_app
from tests.console import console

MINE = """---
name: slogans
version: 2
language: de
summary: slogans for a product
output: texts
n: 3
inputs: {product: null, tone: dry}
---
<!-- user -->
Write {{ n }} slogans for {{ product }}, {{ tone }}.
{"texts": ["…"]}
"""


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path):
    """``recipes("expand", "--json")`` within ``tmp_path``, as the console script runs it."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    return console("datakit", lambda: run_app(app, "datakit"), monkeypatch, capfd, tmp_path)


def test_all_recipes_are_listed_with_what_they_take_and_make(recipes):
    ran = recipes()
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert [line.split()[0] for line in lines[2:14]] == recipe_names()
    assert lines[0].split() == ["recipe", "languages", "seeds", "makes", "answer", "n", "what", "it", "makes"]
    told = {line.split()[0]: " ".join(line.split()) for line in lines[2:14]}
    assert told["paraphrase"] == (
        "paraphrase en zh chat new texts 20 the same question asked in many ways, the answer kept"
    )
    assert told["judge"] == "judge en zh chat same score a score from 1 to 10 for each row, with the reason"


def test_the_list_as_json_holds_the_same_with_inputs_and_sampling(recipes):
    listed = recipes("--json").json["recipes"]
    assert [one["name"] for one in listed] == recipe_names()
    translate = listed[-1]
    assert translate == {
        "name": "translate",
        "version": translate["version"],
        "summary": "the texts of each row in another language",
        "seeds": "chat",
        "output": "texts",
        "makes": "same",
        "n": 1,
        "per_call": 5,
        "stages": ["sft"],
        "inputs": {"to": None, "glossary": "", "style": ""},
        "sampling": {"temperature": 0.2},
        "languages": ["en", "zh"],
    }


def test_the_list_can_be_had_in_another_language(recipes):
    assert "仿照种子对话" in recipes("--language", "zh").out
    ran = recipes("--language", "fr")
    assert ran.code == 2
    assert ran.err.splitlines() == ['error: --language: no recipe is written in "fr"', "  Known: en, zh"]


def test_one_recipe_is_told_in_words_with_its_prompt_and_an_example_seed(recipes):
    ran = recipes("expand")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0] == "expand, version 1: more conversations like the seed, on new questions"
    assert "  takes      a conversation (a question and its answer, or more turns)" in lines
    assert "  makes      10 rows of each seed, up to 5 in one call, unless --n says otherwise" in lines
    assert "  tone       empty" in lines
    assert lines.index("--- system") < lines.index("--- user") < lines.index("How often should I oil the chain?")
    assert lines[-1] == "New conversations wanted: 5"
    assert "\x1b" not in ran.out


def test_ways_topics_and_further_steps_are_told(recipes):
    evolve, persona, preference = (recipes(name).out for name in ("evolve", "persona", "preference"))
    assert "\nways\n  constraints: Add one or two conditions" in evolve
    assert "\ntopics\n  its name, asked directly or in passing\n" in persona
    assert "  name       must be given\n" in persona
    assert "\nthe prompt of the step compare with an example seed\n" in preference
    assert "<answer_a>\nEvery 200 km.\n</answer_a>" in preference


def test_one_recipe_as_json_holds_its_messages(recipes):
    shown = recipes("preference", "--language", "zh", "--json").json
    prompt = load_recipe("preference", "zh").prompt
    assert (shown["language"], shown["digest"], shown["languages"]) == ("zh", prompt.digest, ["en", "zh"])
    assert [message["role"] for message in shown["example"]] == ["system", "user"]
    assert "链条多久上一次油？" in shown["example"][1]["content"]
    assert shown["steps"]["compare"]["output"] == "verdict"


def test_a_file_of_the_users_is_shown_likewise(recipes, tmp_path):
    (tmp_path / "slogans.md").write_text(MINE, encoding="utf-8")
    out = recipes("slogans.md").out
    assert out.startswith("slogans, version 2: slogans for a product\n")
    assert "  file       slogans.md\n" in out
    assert "  product    must be given\n  tone       dry\n" in out
    assert out.endswith('--- user\nWrite 5 slogans for <product>, dry.\n{"texts": ["…"]}\n')
    assert recipes("slogans.md", "--json").json["languages"] == ["de"]


def test_a_fault_in_a_file_is_told_with_its_line_and_variable(recipes, tmp_path):
    (tmp_path / "slogans.md").write_text(MINE.replace("{{ product }}", "{{ produkt }}"), encoding="utf-8")
    ran = recipes("slogans.md")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines() == [
        "error: slogans.md: 1 fault",
        '  - line 11: unknown variable "produkt". Did you mean "product"? Known: already, n, product, seed, tone',
    ]


def test_an_unknown_recipe_gives_the_nearest_name(recipes):
    ran = recipes("qa-from-txt")
    assert ran.code == 2
    assert ran.err.startswith('error: unknown recipe "qa-from-txt"\n  Did you mean "qa-from-text"? Known: answer, ')
