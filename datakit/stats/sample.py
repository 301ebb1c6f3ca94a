"""Rows drawn at random from all of them, and how far figures of such a sample may be off."""

from __future__ import annotations

import math
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING, Any, TypeVar

from datakit.summary import with_progress
from registry.blocks import Block, numbered_lines, read_blocks
from registry.rows import BadRow, Row, row_of_line

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray[Any, np.dtype[Any]]

T = TypeVar("T")

CONFIDENCE = 0.95
Z = 1.959963985  # 97.5% of a normal distribution lie below so many standard deviations above its mean


@dataclass(frozen=True, slots=True)
class Sample:
    """``num_rows`` rows drawn from ``num_all``, each with the same chance."""

    num_rows: int
    num_all: int
    seed: int

    @property
    def is_whole(self) -> bool:
        return self.num_rows == self.num_all

    @property
    def factor(self) -> float:
        """How many rows each drawn one stands for."""
        return self.num_all / self.num_rows


Undecoded = tuple[str, int, bytes, bool]  # file, number, line, and whether it is the file's last without a line break


def draw_rows(
    sources: Sequence[Sequence[str]], size: int, seed: int
) -> tuple[list[tuple[int, Row | BadRow]], Counter[str]]:
    """``size`` rows (all, where there are fewer) in file order, each with the number of its source; and rows by file.

    Of JSON lines only the drawn ones are decoded. Holds ``size`` rows in memory. Raises ``UsageError`` as
    ``registry.rows.read_rows`` does.
    """
    num_of: Counter[str] = Counter()
    passing = ((number, row) for number, files in enumerate(sources) for row in _undecoded(files, num_of))
    with closing(with_progress(passing, "drawing")) as rows:
        drawn, _ = reservoir(rows, size, random.Random(seed))
    return [
        (number, row_of_line(*row[:3], cut=row[3]) if isinstance(row, tuple) else row) for number, row in drawn
    ], num_of


def _undecoded(files: Sequence[str], num_of: Counter[str]) -> Iterator[Row | BadRow | Undecoded]:
    """The rows of files, of JSON lines undecoded; they are counted by file."""
    for item in read_blocks(files):
        if not isinstance(item, Block):
            num_of[item.file] += 1
            yield item
            continue
        found = numbered_lines(item)
        num_of[item.file] += len(found)
        yield from ((item.file, *line) for line in found)


def reservoir(items: Iterable[T], size: int, rng: random.Random) -> tuple[list[T], int]:
    """``size`` of the ``items`` in their order, each choice as likely as any other; and how many items there were.

    Li 1994, "Reservoir-sampling algorithms of time complexity O(n(1 + log(N/n)))", algorithm L: what is not drawn is
    skipped without a look.
    """
    counter = count()
    numbered = zip(counter, items, strict=False)
    kept = list(islice(numbered, size))
    weight = 1.0
    while len(kept) == size:
        weight *= math.exp(math.log(1 - rng.random()) / size)
        skip = math.log(1 - rng.random()) / math.log1p(-weight) if weight < 1 else 0.0
        item = next(islice(numbered, int(min(skip, sys.maxsize)), None), None)
        if item is None:
            break
        kept[rng.randrange(size)] = item
    total = len(kept) if len(kept) < size else next(counter) - 1
    return [item for _, item in sorted(kept, key=lambda pair: pair[0])], total


def rank_band(num_rows: int, share: float) -> tuple[int, int]:
    """The ranks (from 1) in a sample between which the true quantile of ``share`` lies with 95% confidence.

    Order statistics: how many of the sample lie below the quantile is binomial, whatever the distribution. Rank 0
    means that no drawn row is sure to lie below, ``num_rows + 1`` that none is sure to lie above.
    """
    import numpy as np

    if share <= 0 or share >= 1:
        return (0, 1) if share <= 0 else (num_rows, num_rows + 1)
    spread = 12 * math.sqrt(num_rows * share * (1 - share)) + 30
    first = max(int(num_rows * share - spread), 0)
    below = np.arange(first, min(int(num_rows * share + spread), num_rows) + 1)
    # Each term of the binomial by its ratio to the one before; what lies further out is below 1e-30.
    logs = np.cumsum(np.log((num_rows - below[:-1]) / (below[:-1] + 1)) + math.log(share / (1 - share)))
    terms = np.exp(np.concatenate([[0.0], logs]) - max(logs.max(initial=0.0), 0.0))
    up_to = np.cumsum(terms) / terms.sum()
    tail = (1 - CONFIDENCE) / 2
    low = first + int(np.searchsorted(up_to, tail, side="right"))
    high = first + int(np.searchsorted(up_to, 1 - tail, side="left")) + 1
    return low, min(high, num_rows + 1)


def total_band(values: Floats, sample: Sample) -> tuple[float, float]:
    """The band of a total over all rows, given what each drawn row adds to it (rejected ones nothing, so not listed)."""
    import numpy as np

    drawn = sample.num_rows
    mean = float(values.sum()) / drawn
    variance = max(float(np.square(values, dtype=np.float64).sum()) / drawn - mean**2, 0.0)
    off = Z * math.sqrt(variance / drawn * max(1 - drawn / sample.num_all, 0.0))
    return max(mean - off, 0.0) * sample.num_all, (mean + off) * sample.num_all


def share_band(hits: int, drawn: int) -> tuple[float, float]:
    """The band of a share that ``hits`` of the drawn rows show (Wilson 1927, which holds for shares near 0 and 1)."""
    share, spread = hits / drawn, Z**2 / drawn
    middle = (share + spread / 2) / (1 + spread)
    off = Z / (1 + spread) * math.sqrt(share * (1 - share) / drawn + spread / (4 * drawn))
    return max(middle - off, 0.0), min(middle + off, 1.0)
