"""The verb augment as a step: its options as the command takes them, what it reads besides rows, and what it tells."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datakit.outcome import Outcome
from datakit.pipeline.things import Thing, thing
from registry.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from datakit.augment.options import AugmentOptions

Options = Mapping[str, Any]

KEYS_ELSEWHERE = (
    "keys do not belong in a file that is shared. They come from the environment, or from a .env file that git "
    "ignores: OPENAI_API_KEY, or ZHIPUAI_API_KEY for zhipu"
)
BUDGETS = ("budget_requests", "budget_tokens", "budget_cost", "budget_minutes")
# option of a step -> its name in AugmentOptions, where that differs
_OTHER_NAMES = {"set": "values", "from": "from_format", "to": "to_format", "map": "mapping", "timeout": "timeout_s"}
_OF_THE_CALL = ("src", "out", "html", "rejects")
_PATHS = ("store", "prices", "tokenizer")
_SECRETS = ("key", "token", "secret", "password", "authorization", "header", "credential")
# Recipes whose rows are answered, or compared, with the recipe answer; a user's own may be.
_ANSWERED = ("evolve", "self-instruct", "preference")


def augment_options(options: Options) -> AugmentOptions:
    """The ``AugmentOptions`` that a step's options stand for. Raises ``UsageError`` for what does not go together."""
    from datakit.augment.budget import Limits
    from datakit.augment.options import AugmentOptions, similarity

    told = {_OTHER_NAMES.get(name, name): value for name, value in options.items() if name not in _OF_THE_CALL}
    limits = Limits(*(told.pop(name, None) for name in BUDGETS))
    told |= {name: Path(told[name]) for name in _PATHS if name in told}
    told |= {name: tuple(told[name]) for name in ("against", "allow") if name in told}
    if "base_url" in told:
        told["base_urls"] = tuple(told.pop("base_url"))
    if "near" in told:
        told["near"] = similarity(told["near"])
    told["origin"] = not told.pop("no_origin", False)
    return AugmentOptions(limits=limits, **told)


def run_augment(options: Options) -> Outcome:
    """Run the step in this process."""
    from datakit.augment.run import augment_rows

    html = options.get("html")
    return augment_rows(
        options.get("src", []),
        options["out"],
        augment_options(options),
        rejects=options.get("rejects"),
        html=Path(html) if html is not None else None,
    )


def faults_of(options: Options) -> list[str]:
    """What is wrong with options that are right one by one."""
    from datakit.augment.accounts import accounts_of

    try:
        checked = augment_options(options)
        accounts_of(checked.provider, checked.base_urls)
    except UsageError as fault:
        return [str(fault)]
    return []


def is_secret(name: str) -> bool:
    """Whether an option is named as keys are: it must not stand in a file that is shared."""
    return any(word in name.lower() for word in _SECRETS)


def check_recipe(name: str) -> None:
    """Raise ``UsageError`` where ``name`` is neither a shipped recipe nor a .md file."""
    from datakit.recipes.recipe import recipe_names

    if not name.endswith(".md") and name not in recipe_names():
        known = recipe_names()
        raise UsageError(f'there is no recipe "{name}". {did_you_mean(name, known)} Known: {", ".join(known)}')


def recipes_read(options: Options) -> list[Thing]:
    """The recipes whose text shapes the rows: a shipped one by its prompts, a user's own by its file."""
    name = options.get("recipe")
    if name is None:
        return []
    own = name.endswith(".md")
    found = [thing(name) if own else Thing(name, "recipe")]
    if own or name in _ANSWERED:
        found.append(Thing("answer", "recipe"))
    if options.get("judge"):
        found.append(Thing("judge", "recipe"))
    return found


def note_of(details: Mapping[str, Any]) -> str:
    """What a table has room for: where the answers came from, and how many rows were dropped."""
    calls, dropped = details["calls"], details["rows"]["dropped"]
    parts = [_counted(calls["answered"], "answer"), _counted(calls["from_store"], "answer"), _counted(dropped, "row")]
    ends = ("", " from the store", " dropped")
    return ", ".join(part + end for part, end in zip(parts, ends, strict=True) if part)


def _counted(count: int, name: str) -> str:
    """``3 rows``; nothing where there are none."""
    return f"{count:,} {name}{'' if count == 1 else 's'}" if count else ""


def recorded(details: Mapping[str, Any]) -> str:
    """What is said where answers came from a store that tells where it has them from; empty otherwise."""
    note = details.get("recorded")
    return f"{_counted(details['calls']['from_store'], 'answer')} came from the store. {note}" if note else ""


def report_of(details: Mapping[str, Any]) -> str:
    """The report as the command prints it."""
    from datakit.augment.report.show import report_lines

    return "\n".join(filter(None, ("\n".join(report_lines(details)), recorded(details))))
