"""Which made rows are kept: each as it will be written, in order, with the reason where it is dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

from datakit.augment.filters import own, valid
from datakit.augment.filters.candidate import Candidate, candidates
from datakit.augment.filters.others import read_others
from datakit.augment.filters.plan import REASONS as REASONS
from datakit.augment.filters.plan import FilterOptions as FilterOptions
from datakit.augment.filters.plan import Prompted, Rules, rules_for
from datakit.augment.filters.twins import OTHER, Twins
from datakit.augment.rollout import Made, Seed
from registry.datasets import Layout

BATCH = 256  # rows looked at together

Filter = Callable[[Candidate, Rules], str | None]
# reason -> what looks for it; tells the detail of what it found
FILTERS: dict[str, Filter] = {
    "empty": own.empty,
    "invalid": valid.invalid,
    "placeholder": valid.placeholder,
    "refusal": valid.refusal,
    "echo": own.echo,
    "language": own.language,
    "length": own.length,
    "score": own.score,
    "duplicate": own.duplicate,
    "near-duplicate": own.near_duplicate,
}
_OF_OTHER_ROWS = ("duplicate", "near-duplicate")  # looked for last: only a row that is else kept stands in for others


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a row is kept. ``reason`` is a name in ``FILTERS``, empty for a row that is; ``detail`` holds no text of a row."""

    reason: str = ""
    detail: str = ""

    @property
    def kept(self) -> bool:
        return not self.reason


@dataclass(frozen=True, slots=True)
class Judged:
    """A row as it will be written, where it comes from, and whether it is kept."""

    data: dict[str, Any]
    made: Made
    verdict: Verdict


class Filters:
    """The filters of one run, which remember all rows so far. A context manager: n-grams lie on disk meanwhile.

    Memory: some 500 bytes a row that is kept, whatever its length, and 128 MB at most of n-grams.
    """

    def __init__(self, rules: Rules, folder: Path | None = None) -> None:
        self.rules = rules
        self._twins = Twins(rules, folder)
        self._num_rows = 0

    def __enter__(self) -> Filters:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._twins.close()

    def learn_seeds(self, seeds: Iterable[Seed]) -> None:
        """Seeds that no made row may repeat; to be told before any row. Those of each row are known without it."""
        if self.rules.of_seeds:
            for batch in _batches(seeds):
                self._twins.learn_seeds(batch)

    def learn_against(self, files: Sequence[str]) -> int:
        """Rows of other files that no made row may repeat; how many there are. To be told before any row.

        Raises ``UsageError`` for files that cannot be read.
        """
        count = 0
        for batch in _batches(read_others(files)):
            self._twins.learn(OTHER, batch)
            count += len(batch)
        return count

    def judge(self, rows: Iterable[tuple[dict[str, Any], Made]], layout: Layout | None = None) -> Iterator[Judged]:
        """Each row once, in order, with its verdict. ``layout`` is that of the rows (None: as each looks)."""
        checker = valid.Checker(layout)
        for batch in _batches(rows):
            found = candidates(batch, self._num_rows + 1, questions=self.rules.questions)
            self._num_rows += len(batch)
            checker.check(found)
            verdicts = {row.number: self._first(row, FILTERS.keys() - _OF_OTHER_ROWS) for row in found}
            left = [row for row in found if verdicts[row.number].kept]
            self._compare(left)
            verdicts |= {row.number: self._first(row, _OF_OTHER_ROWS) for row in left}
            for row in found:
                yield Judged(row.data, row.made, verdicts[row.number])

    def _first(self, row: Candidate, names: Iterable[str]) -> Verdict:
        """What the first of some filters finds."""
        for name, look in FILTERS.items():
            if name in names and name not in self.rules.options.allow:
                detail = look(row, self.rules)
                if detail is not None:
                    return Verdict(name, detail)
        return Verdict()

    def _compare(self, rows: Sequence[Candidate]) -> None:
        """Find the twins of rows that are kept so far."""
        if rows and self.rules.of_seeds:
            seeds = {id(seed.record): seed for row in rows for seed in row.seeds}
            self._twins.learn_seeds(list(seeds.values()))
        if rows:
            self._twins.find(rows)


def plan_filters(prompt: Prompted, options: FilterOptions | None = None, folder: Path | None = None) -> Filters:
    """The filters for rows made by the recipe whose main prompt this is, as its nature asks.

    ``folder`` is where n-grams lie meanwhile, in a file without a name; None: where the system keeps temporary files.
    """
    return Filters(rules_for(prompt, options or FilterOptions()), folder)


def _batches(rows: Iterable[Any]) -> Iterator[list[Any]]:
    passing = iter(rows)
    while batch := list(islice(passing, BATCH)):
        yield batch
