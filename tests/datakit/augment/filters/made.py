"""Made rows, spelled short, and a stand-in for a recipe's prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datakit.augment.filters import FilterOptions, Judged, plan_filters
from datakit.augment.rollout import Made, Seed
from registry.records import ChatRecord, Message, Record


@dataclass(frozen=True)
class Recipe:
    """What filters read of a prompt."""

    seeds: str = "chat"
    output: str = "dialogues"
    makes: str = "new"
    data: Mapping[str, Any] = field(default_factory=dict)


EXPAND = Recipe()
PARAPHRASE = Recipe(output="texts")
EVOLVE = Recipe(output="texts", data={"ways": {"depth": "ask deeper"}})
QA = Recipe(seeds="text", output="pairs")
PERSONA = Recipe(seeds="none", output="pairs")
ANSWER = Recipe(output="text", makes="same")
JUDGE = Recipe(output="score", makes="same")
THINK = Recipe(output="thought", makes="same")
TRANSLATE = Recipe(output="texts", makes="same")
MULTI_TURN = Recipe(output="dialogues", makes="same")
PREFERENCE = Recipe(output="text", makes="same")

EGG = (
    "How do I boil an egg so that the yolk stays soft?",
    "Lower it into boiling water and take it out after six minutes.",
)


def chat(*texts: str, system: str = "") -> ChatRecord:
    """A conversation: question, answer, question, answer …"""
    roles = ("user", "assistant")
    return ChatRecord(tuple(Message(roles[at % 2], text) for at, text in enumerate(texts)), system)  # type: ignore[arg-type]


def seed(*texts: str, number: int = 1, record: Record | None = None) -> Seed:
    """A seed of ``seeds.jsonl``; by default the egg."""
    return Seed(number - 1, "seeds.jsonl", number, record or chat(*(texts or EGG)))


def made(*texts: str, of: Seed | Sequence[Seed] | None = None, record: Record | None = None, **notes: Any) -> Made:
    """A row made of the egg, of another seed, or of several."""
    seeds = (seed(),) if of is None else (of,) if isinstance(of, Seed) else tuple(of)
    return Made(record or chat(*texts), (), seeds, notes)


def written(row: Made) -> dict[str, Any]:
    """A row as it is written."""
    from registry.formats import WRITERS

    shape = "sharegpt" if isinstance(row.record, ChatRecord) and len(row.record.messages) > 2 else "alpaca"
    return WRITERS[shape](row.record)


def judged(rows: Sequence[Made], recipe: Recipe = EXPAND, against: Sequence[str] = (), **options: Any) -> list[Judged]:
    """Rows through the filters of a recipe; all their seeds are known before."""
    with plan_filters(recipe, FilterOptions(**options)) as filters:
        filters.learn_against(against)
        filters.learn_seeds([s for row in rows for s in row.seeds])
        return list(filters.judge((written(row), row) for row in rows))


def reason(row: Made, recipe: Recipe = EXPAND, **options: Any) -> tuple[str, str]:
    """Why one row is dropped: reason and detail; both empty where it is kept."""
    (found,) = judged([row], recipe, **options)
    return found.verdict.reason, found.verdict.detail


KEPT = ("", "")
