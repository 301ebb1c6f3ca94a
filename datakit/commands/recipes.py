"""The command line of `datakit recipes`: its options, and recipes as a table, in words or as JSON."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datakit.commands.common import Json, Quiet
from registry.command import print_json, set_up_logging
from registry.errors import UsageError

if TYPE_CHECKING:
    from datakit.recipes.recipe import Prompt, Recipe

TABLE_WIDTH = 160
_TAKES = {
    "chat": "a conversation (a question and its answer, or more turns)",
    "text": "a piece of a document",
    "pool": "several conversations at a time",
    "none": "nothing: rows are made from the inputs alone",
}
_GIVES = {
    "text": "text, taken as it is",
    "thought": "reasoning in <think>, then the answer",
    "texts": "JSON, a list of texts",
    "pairs": "JSON, a list of questions with answers",
    "instructions": "JSON, a list of instructions with inputs",
    "dialogues": "JSON, a list of conversations",
    "score": "JSON, a score from 1 to 10 and its reason",
    "verdict": "JSON, which of two answers is better, and why",
}


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME|FILE]", help="A recipe by name, or a file of yours (.md).", show_default=False),
    ] = None,
    language: Annotated[
        str | None, typer.Option("--language", help="Which wording to show, e.g. zh.", show_default="en")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the recipes of augment, or show one: what it takes and makes, its inputs, and its prompt with an example seed."""
    set_up_logging(quiet)
    from datakit.recipes.recipe import languages_of, load_recipe, recipe_names
    from datakit.summary import say, visible

    if name is None:
        there = {one: languages_of(one) for one in recipe_names()}
        listed = [
            (load_recipe(one, language or "en"), languages)
            for one, languages in there.items()
            if (language or "en") in languages
        ]
        if not listed:
            known = ", ".join(sorted(set(chain(*there.values()))))
            raise UsageError(f'no recipe is written in "{language}"', where="--language", mend=f"Known: {known}")
        if json:
            print_json({"recipes": [_described(recipe.prompt, languages) for recipe, languages in listed]})
        else:
            say(_table([recipe.prompt for recipe, _ in listed], [languages for _, languages in listed]))
        return
    recipe = load_recipe(name, language or "en")
    languages = languages_of(name) if not name.endswith(".md") else [recipe.prompt.language]
    if json:
        print_json(_shown(recipe, languages))
    else:
        say(visible(_in_words(recipe, languages)))


def _table(prompts: list[Prompt], languages: list[list[str]]) -> str:
    from datakit.stats.tables import Table, lines_of

    heads = ("recipe", "languages", "seeds", "makes", "answer", "n", "what it makes")
    rows = [
        (p.name, " ".join(known), p.seeds, p.makes, p.output, str(p.n) if p.makes == "new" else "", p.summary)
        for p, known in zip(prompts, languages, strict=True)
    ]
    table = Table("", heads, rows, left=frozenset({0, 1, 2, 3, 4, 6}))
    more = "One in full: datakit recipes NAME. One of your own: datakit augment … --recipe FILE.md"
    return "\n".join([*lines_of(table, TABLE_WIDTH), "", more])


def _in_words(recipe: Recipe, languages: list[str]) -> str:
    prompt = recipe.prompt
    rows = "1 for each seed, which it becomes" if prompt.makes == "same" else _count(prompt)
    facts = [
        ("takes", _TAKES[prompt.seeds]),
        ("makes", rows),
        ("answer", _GIVES[prompt.output]),
        ("for", ", ".join(prompt.stages)),
        ("languages", ", ".join(languages)),
        ("sampling", ", ".join(f"{k} {v}" for k, v in prompt.sampling.items()) or "the server's own"),
        ("file", prompt.path),
    ]
    lines = [f"{prompt.name}, version {prompt.version}: {prompt.summary or 'no summary'}", ""]
    lines += [f"  {word:<10} {text}" for word, text in facts]
    inputs = [
        f"  {name:<10} " + ("must be given" if default is None else "empty" if default == "" else f"{default}")
        for name, default in prompt.inputs.items()
    ]
    lines += ["", "inputs, to be set with --set NAME=VALUE", *(inputs or ["  none"])]
    for kind, named in prompt.data.items():
        lines += ["", kind, *(f"  {one}" + (f": {named[one]}" if isinstance(named, dict) else "") for one in named)]
    for step, other in (("", prompt), *recipe.steps.items()):
        lines += ["", f"the prompt{f' of the step {step}' if step else ''} with an example seed"]
        for role, text in _messages(other):
            lines += ["", f"--- {role}", text]
    return "\n".join(lines)


def _count(prompt: Prompt) -> str:
    of = {"chat": " of each seed", "text": " of each piece", "pool": " for each seed", "none": ""}[prompt.seeds]
    calls = f", up to {prompt.per_call} in one call" if prompt.per_call > 1 else ""
    return f"{prompt.n} rows{of}{calls}, unless --n says otherwise"


def _messages(prompt: Prompt) -> tuple[tuple[str, str], ...]:
    from datakit.recipes.example import example_values

    return prompt.render(example_values(prompt))


def _described(prompt: Prompt, languages: list[str]) -> dict[str, Any]:
    keys = ("name", "version", "summary", "seeds", "output", "makes", "n", "per_call", "stages", "inputs", "sampling")
    return {key: getattr(prompt, key) for key in keys} | {"languages": languages, **prompt.data}


def _shown(recipe: Recipe, languages: list[str]) -> dict[str, Any]:
    def said(prompt: Prompt) -> dict[str, Any]:
        messages = [{"role": role, "content": text} for role, text in _messages(prompt)]
        return {"language": prompt.language, "file": prompt.path, "digest": prompt.digest, "example": messages}

    steps = {name: _described(step, languages) | said(step) for name, step in recipe.steps.items()}
    return _described(recipe.prompt, languages) | said(recipe.prompt) | {"steps": steps}
