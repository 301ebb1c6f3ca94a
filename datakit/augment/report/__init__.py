"""What is told of an augment run: rows by recipe, why rows were dropped, how varied and how long they are, and the cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from datakit.augment.filters import REASONS, Judged
from datakit.augment.report.diversity import Sample, diversity
from datakit.augment.report.engine import Figures as Figures
from datakit.augment.report.example import example_of
from datakit.augment.report.lengths import Lengths
from registry.records import Record

CODED = ("invalid", "placeholder", "refusal")  # reasons whose detail begins with a code of validate's


@dataclass
class Dropped:
    """All rows dropped for one reason; the example is the first of them that may be shown."""

    count: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    detail: str = ""
    example: str = ""


@dataclass
class AugmentReport:
    """Grows while rows pass: 8 bytes a row, and a sample of a few thousand rows."""

    asked: Counter[str] = field(default_factory=Counter)  # rows wanted, by recipe
    made: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    dropped: dict[str, Dropped] = field(default_factory=dict)  # by reason
    num_seeds: int = 0
    _kept_lengths: Lengths = field(default_factory=Lengths)
    _seed_lengths: Lengths = field(default_factory=Lengths)
    _kept_sample: Sample = field(default_factory=lambda: Sample(1))
    _seed_sample: Sample = field(default_factory=lambda: Sample(2))

    def ask(self, recipe: str, num_rows: int) -> None:
        """So many more rows are wanted of a recipe."""
        self.asked[recipe] += num_rows

    def seed(self, record: Record) -> None:
        """One seed, told once however many rows are made of it."""
        self.num_seeds += 1
        self._seed_lengths.add(record)
        self._seed_sample.add(record)

    def add(self, judged: Judged, recipe: str) -> None:
        """One made row with its verdict."""
        self.made[recipe] += 1
        verdict, record = judged.verdict, judged.made.record
        if verdict.kept:
            self.kept[recipe] += 1
            self._kept_lengths.add(record)
            self._kept_sample.add(record)
            return
        dropped = self.dropped.setdefault(verdict.reason, Dropped())
        dropped.count += 1
        if verdict.reason in CODED:
            dropped.codes[verdict.detail.split(":")[0]] += 1
        if not dropped.example:
            example = example_of(record)
            dropped.detail = verdict.detail if example or not dropped.detail else dropped.detail
            dropped.example = example or ""

    def as_json(self, figures: Figures | None = None) -> dict[str, Any]:
        """What ``--json`` and the manifest tell; rows made = rows kept + rows dropped."""
        figures = figures or Figures()
        kept = self.kept.total()
        return {
            "rows": {
                "asked": self.asked.total(),
                "made": self.made.total(),
                "kept": kept,
                "dropped": sum(dropped.count for dropped in self.dropped.values()),
                "seeds": self.num_seeds,
            },
            "recipes": [self._recipe(name) for name in dict.fromkeys((*self.asked, *self.made))],
            "dropped": [_entry(reason, self.dropped[reason]) for reason in REASONS if reason in self.dropped],
            "lengths": {"seeds": self._seed_lengths.as_json(), "kept": self._kept_lengths.as_json()},
            "diversity": diversity(self._kept_sample, self._seed_sample),
            "calls": figures.as_json(),
            "cost_per_kept_row": figures.cost / kept if figures.cost is not None and kept else None,
            "tokens_per_kept_row": (figures.prompt_tokens + figures.completion_tokens) / kept if kept else None,
        }

    def _recipe(self, name: str) -> dict[str, Any]:
        made, kept = self.made[name], self.kept[name]
        return {
            "recipe": name,
            "asked": self.asked[name],
            "made": made,
            "kept": kept,
            "share_kept": round(kept / made, 4) if made else None,
        }


def _entry(reason: str, dropped: Dropped) -> dict[str, Any]:
    return {
        "reason": reason,
        "meaning": REASONS[reason],
        "count": dropped.count,
        "codes": dict(sorted(dropped.codes.items())),
        "detail": dropped.detail,
        "example": dropped.example,
    }
