"""Which rollout a recipe gets: the shipped ones by name, all others by what their file says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from datakit.augment.rollouts import (
    ROLLOUTS,
    answers,
    by_form,
    evolve,
    judge,
    persona,
    preference,
    rollout_for,
    several,
    tasks,
    translate,
)
from datakit.recipes.recipe import Prompt, Recipe, languages_of, load_recipe, recipe_names
from registry.errors import UsageError


def own(**keys: Any) -> Prompt:
    plain = replace(
        load_recipe("answer").prompt, path="/home/me/mine.md", body="{{ seed.question }}", data={}, makes="new"
    )
    return replace(plain, **keys)


def test_every_shipped_recipe_has_a_rollout_and_the_other_way_round():
    assert sorted(ROLLOUTS) == recipe_names()


@pytest.mark.parametrize("name", recipe_names())
def test_a_copy_of_a_shipped_recipe_does_the_same_under_another_name(name: str):
    for language in languages_of(name):
        recipe = load_recipe(name, language)
        assert rollout_for(recipe) is ROLLOUTS[name]
        copy = replace(recipe.prompt, name="mine", path="/home/me/mine.md")
        assert rollout_for(Recipe("mine", copy)) is ROLLOUTS[name]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"output": "texts"}, several.questions),
        ({"output": "texts", "data": {"ways": {"a": "b"}}}, evolve.evolve),
        ({"output": "texts", "seeds": "text"}, several.documents),
        ({"output": "texts", "seeds": "pool"}, tasks.questions),
        ({"output": "texts", "seeds": "none"}, tasks.questions),
        ({"output": "texts", "makes": "same"}, translate.translate),
        ({"output": "pairs", "seeds": "text"}, several.pairs),
        ({"output": "pairs", "makes": "same"}, several.one_pair),
        ({"output": "pairs", "seeds": "none", "data": {"topics": ("a",)}}, persona.persona),
        ({"output": "dialogues", "seeds": "pool"}, several.dialogues),
        ({"output": "dialogues", "makes": "same"}, several.one_dialogue),
        ({"output": "instructions"}, tasks.tasks),
        ({"output": "text", "makes": "same"}, answers.fill),
        ({"output": "text", "makes": "same", "body": "Politer: {{ seed.answer }}"}, answers.anew),
        ({"output": "text"}, answers.anew),
        ({"output": "text", "seeds": "text"}, answers.documents),
        ({"output": "text", "makes": "same", "stages": ("dpo",)}, preference.preference),
        ({"output": "thought", "makes": "same"}, answers.think),
        ({"output": "score", "makes": "same"}, judge.judge),
    ],
)  # fmt: skip
def test_what_a_users_own_recipe_does_follows_from_its_output_and_seeds(keys: dict[str, Any], expected: Any):
    assert rollout_for(Recipe("mine", own(**keys))) is expected
    assert rollout_for(Recipe("expand", own(**keys))) is expected  # its name does not matter


@pytest.mark.parametrize(
    "keys", [{"output": "verdict"}, {"output": "thought", "seeds": "pool"}, {"output": "score", "seeds": "none"}]
)
def test_what_no_rows_can_be_made_of_is_told(keys: dict[str, Any]):
    with pytest.raises(UsageError, match=f"no rows can be made of the output {keys['output']}"):
        by_form(own(**keys))
