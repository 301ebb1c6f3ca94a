"""What each recipe does with a seed: its calls, and the rows made of their answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from datakit.augment.rollout import Making, Rollout, Seed
from datakit.augment.rollouts import answers, evolve, judge, persona, preference, several, tasks, translate
from registry.errors import UsageError

if TYPE_CHECKING:
    from datakit.recipes.recipe import Prompt, Recipe

MakeRows = Callable[[Seed, Making], Rollout]

ROLLOUTS: dict[str, MakeRows] = {
    "expand": several.dialogues,  # n more conversations
    "paraphrase": several.questions,  # the first question in n ways
    "evolve": evolve.evolve,  # a harder task, then its answer
    "self-instruct": tasks.tasks,  # new tasks from a pool, then their answers
    "answer": answers.fill,  # where it is missing
    "think": answers.think,  # with the reasoning in front
    "multi-turn": several.one_dialogue,  # instead of the pair
    "qa-from-text": several.pairs,  # on a piece of a document
    "translate": translate.translate,  # all texts of the row
    "preference": preference.preference,  # a better and a worse answer
    "judge": judge.judge,  # the row, with its score
    "persona": persona.persona,  # questions on who it is, by topics
}


def rollout_for(recipe: Recipe) -> MakeRows:
    """What a recipe does: a shipped one by its name, a user's own by what its file says.

    - texts: questions, kept answer (chat, new); harder tasks, answered (with ``ways``); the row's texts anew (same);
      documents (of text); questions to be answered (pool, none)
    - pairs, dialogues: rows as they are; one for each seed where it makes the same; by ``topics`` where it has some
    - instructions: answered with the recipe ``answer``
    - text: the answer to each row that lacks one, or to all where the body reads ``seed.answer``; of ``makes: new`` n of
      them; a document where the seed is no conversation; a worse answer where the stages are dpo and rm only
    - thought: the answer with reasoning; score: the row with its score

    Raises ``UsageError`` for what no rows can be made of.
    """
    prompt = recipe.prompt
    if recipe.name in ROLLOUTS and _is_shipped(prompt):
        return ROLLOUTS[recipe.name]
    return by_form(prompt)


def _is_shipped(prompt: Prompt) -> bool:
    from datakit.recipes.recipe import FOLDER

    return Path(prompt.path).parent.parent == FOLDER


def by_form(prompt: Prompt) -> MakeRows:
    """What follows from ``seeds``, ``output``, ``makes`` and ``stages`` of a prompt. Raises ``UsageError``."""
    keeps = prompt.makes == "same"
    found: MakeRows | None = None
    match prompt.output:
        case "texts" if keeps:
            found = translate.translate
        case "texts" if prompt.seeds == "text":
            found = several.documents
        case "texts" if prompt.seeds != "chat":
            found = tasks.questions
        case "texts":
            found = evolve.evolve if prompt.data.get("ways") else several.questions
        case "pairs" if prompt.seeds == "none" and prompt.data.get("topics"):
            found = persona.persona
        case "pairs":
            found = several.one_pair if keeps else several.pairs
        case "dialogues":
            found = several.one_dialogue if keeps else several.dialogues
        case "instructions":
            found = tasks.tasks
        case "text" if prompt.seeds != "chat":
            found = answers.documents
        case "text" if keeps and set(prompt.stages) <= {"dpo", "rm"}:
            found = preference.preference
        case "text" if keeps and not _READS_ANSWER.search(prompt.body):
            found = answers.fill
        case "text":
            found = answers.anew
        case "thought" if prompt.seeds == "chat":
            found = answers.think
        case "score" if prompt.seeds in ("chat", "text"):
            found = judge.judge
    if found is None:
        raise UsageError(
            f"no rows can be made of the output {prompt.output} with seeds {prompt.seeds}",
            where=prompt.path,
            mend="thought and score belong to a conversation (seeds: chat); verdict to a step of preference.",
        )
    return found


_READS_ANSWER = re.compile(r"""\bseed\s*(?:\.\s*answer\b|\[\s*["']answer["']\s*\])""")
