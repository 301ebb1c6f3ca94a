"""Which rows of which datasets come in which order: pure functions of sizes and a seed, equal to the datasets library's.

Rows are counted from 0 within their dataset. Every order is an int64 array; nothing is read or copied here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from registry.errors import UsageError
from registry.slices import RowSlice, sliced_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Order = NDArray[np.int64]

# mix_strategy -> how an interleaving ends, by the name that the datasets library has for it (None: nothing is interleaved)
STRATEGIES: dict[str, str | None] = {
    "concat": None,
    "interleave_under": "first_exhausted",
    "interleave_over": "all_exhausted",
    "interleave_once": "all_exhausted_without_replacement",
}
DRAWS = 1000  # datasets drawn at once, as the library does
# What numpy.random.Generator.choice lets pass as a sum of 1.
_TOLERANCE = math.sqrt(2.0**-52)

MOST_TIMES = 1000  # as many draws as all rows together


def check_probs(probs: Sequence[float] | None, num_datasets: int, *, strategy: str = "interleave_under") -> None:
    """Raise ``UsageError`` unless ``probs`` are probabilities, one for each dataset, that add up to 1; None is right."""
    if probs is None:
        return
    where = "interleave_probs"
    if STRATEGIES[strategy] is None:
        raise UsageError(
            f"{strategy} draws nothing, so it takes no probabilities",
            where=where,
            mend="Set mix_strategy: interleave_under, interleave_over or interleave_once, or leave them out.",
        )
    if len(probs) != num_datasets:
        raise UsageError(
            f"{len(probs)} probabilities for {num_datasets} datasets", where=where, mend="Give one for each dataset."
        )
    wrong = [p for p in probs if not (math.isfinite(p) and p >= 0)]
    if wrong:
        raise UsageError(f"{wrong[0]:g} is no probability", where=where, mend="Give numbers from 0 to 1.")
    total = math.fsum(probs)
    if abs(total - 1) > _TOLERANCE:
        scaled = _scaled(probs, total) if total > 0 else None
        raise UsageError(
            f"the probabilities add up to {total:g}, not to 1",
            where=where,
            mend=f"In the same proportion:  interleave_probs: {scaled}" if scaled else "One must be above 0.",
        )
    never = [number for number, p in enumerate(probs) if p == 0]
    if never and strategy != "interleave_under":
        raise UsageError(
            f"dataset {never[0] + 1} has the probability 0, and {strategy} goes on until every dataset is used up",
            where=where,
            mend="Leave this dataset out, or set mix_strategy: interleave_under.",
        )


def _scaled(probs: Sequence[float], total: float) -> str:
    """The shortest spelling of probabilities in the same proportion that adds up to 1 exactly enough."""
    for digits in range(2, 18):
        first = [round(p / total, digits) for p in probs[:-1]]
        values = [*first, round(1 - math.fsum(first), digits)]
        near = all(abs(v - p / total) <= max(0.01 * p / total, 1e-12) for v, p in zip(values, probs, strict=True))
        if near and abs(math.fsum(values) - 1) <= _TOLERANCE:
            break
    return ",".join(f"{value:.{digits}g}" for value in values)


def mixed_order(
    sizes: Sequence[int], strategy: str, probs: Sequence[float] | None = None, seed: int = 0
) -> tuple[Order, Order]:
    """The dataset and the row of each place of a mix of datasets with ``sizes`` rows: two arrays of one length.

    ``strategy`` is a key of ``STRATEGIES``. Interleaving takes a row from each dataset in turn, or with ``probs`` from
    one drawn by a NumPy generator of ``seed``; it ends with the first dataset that is used up (under), with the last
    one, the others beginning anew (over), or with the last one, the others left out (once). The order is that of
    ``datasets.interleave_datasets`` (5.2.0, arrow_dataset.py, ``_interleave_map_style_datasets``).
    Raises ``UsageError`` as ``check_probs``, and for a dataset of 0 rows that is to be interleaved.
    """
    import numpy as np

    check_probs(probs, len(sizes), strategy=strategy)
    ending = STRATEGIES[strategy] if len(sizes) > 1 else None
    if ending is None:
        numbers = np.repeat(np.arange(len(sizes)), sizes)
        return numbers, np.concatenate([np.arange(size) for size in sizes] or [np.arange(0)])
    for number, size in enumerate(sizes):
        if not size and (probs is None or probs[number] > 0):
            raise UsageError(
                f"dataset {number + 1} has no row, so there is nothing to interleave",
                where=f"mix_strategy: {strategy}",
                mend="Leave it out, or see why all its rows were rejected.",
            )
    if probs is None:
        return _in_turn(sizes, ending)
    _check_draws(sizes, probs, strategy)
    numbers = _drawn(sizes, ending, probs, seed)
    rows = np.empty(len(numbers), np.int64)
    for number, size in enumerate(sizes):
        places = np.flatnonzero(numbers == number)
        rows[places] = np.arange(len(places)) % max(size, 1)
    return numbers, rows


def _check_draws(sizes: Sequence[int], probs: Sequence[float], strategy: str) -> None:
    """Raise ``UsageError`` for a mix that goes on until a dataset is through that is hardly ever drawn from."""
    if strategy == "interleave_under":
        return
    slowest = max(range(len(sizes)), key=lambda n: sizes[n] / probs[n] if probs[n] else 0)
    draws = sizes[slowest] / probs[slowest] if probs[slowest] else 0
    if draws > MOST_TIMES * sum(sizes):
        raise UsageError(
            f"about {draws:,.0f} draws would pass until dataset {slowest + 1} is through, which has {sizes[slowest]:,} rows "
            f"and a probability of {probs[slowest]:g}",
            where=f"mix_strategy: {strategy}",
            mend="Raise its probability, or leave the dataset out.",
        )


def _in_turn(sizes: Sequence[int], ending: str) -> tuple[Order, Order]:
    """One row of each dataset after the other."""
    import numpy as np

    num_rounds = min(sizes) if ending == "first_exhausted" else max(sizes)
    rounds = np.repeat(np.arange(num_rounds), len(sizes))
    numbers = np.tile(np.arange(len(sizes)), num_rounds)
    held = np.asarray(sizes, np.int64)[numbers]
    if ending == "all_exhausted_without_replacement":
        there = rounds < held
        return numbers[there], rounds[there]
    return numbers, rounds % held


def _drawn(sizes: Sequence[int], ending: str, probs: Sequence[float], seed: int) -> Order:
    """The dataset of each place, drawn by probability until the mix ends."""
    import numpy as np

    rng = np.random.default_rng(seed)
    held = np.asarray(sizes, np.int64)
    drawable = np.asarray(probs) > 0
    over = np.any if ending == "first_exhausted" else np.all
    counts = np.zeros(len(sizes), np.int64)
    blocks: list[Any] = []
    while not over((counts >= held)[drawable]):
        blocks.append(rng.choice(len(sizes), size=DRAWS, p=probs))
        counts += np.bincount(blocks[-1], minlength=len(sizes))
    draws = np.concatenate(blocks).astype(np.int64)
    # A dataset is used up with the draw of its last row; the mix ends with the first or the last of these draws.
    last = [
        int(np.flatnonzero(draws == number)[size - 1])
        for number, size in enumerate(sizes)
        if drawable[number] and counts[number] >= size
    ]
    draws = draws[: (min(last) if ending == "first_exhausted" else max(last)) + 1]
    if ending != "all_exhausted_without_replacement":
        return draws
    there = np.ones(len(draws), bool)
    for number, size in enumerate(sizes):
        there[np.flatnonzero(draws == number)[size:]] = False
    return draws[there]


def sampled_rows(size: int, num_samples: int, rng: np.random.RandomState) -> Order:
    """``num_samples`` of ``size`` rows in random order: each at most once, or where there are fewer, all of them and then
    some again (as LLaMA-Factory 0.9.5, data/loader.py).

    ``rng`` is one ``numpy.random.RandomState`` of the run's seed for all datasets of a run, in their order: it stands
    for NumPy's global generator, which LLaMA-Factory draws from. Raises ``UsageError`` for a dataset of 0 rows.
    """
    import numpy as np

    if not size:
        raise UsageError("there is no row to draw from", where=f"num_samples: {num_samples}")
    rows = rng.permutation(size)[:num_samples]
    missing = num_samples - len(rows)
    return np.concatenate((rows, rng.choice(size, missing))) if missing else rows


def dataset_order(
    num_rows: int,
    rng: np.random.RandomState,
    *,
    slices: Sequence[RowSlice] = (),
    num_samples: int | None = None,
    max_samples: int | None = None,
) -> Order:
    """The rows of one dataset that a run takes, in order: those of the entry's ``slices``, of these ``num_samples`` drawn
    (see ``sampled_rows``), and of these the first ``max_samples``. Raises ``UsageError`` where slices leave no row."""
    import numpy as np

    rows: Order = np.concatenate([np.arange(one.start, one.stop) for one in sliced_rows(slices, num_rows)])
    if slices and not len(rows):
        told = "+".join(map(str, slices))
        raise UsageError(f"the slice {told} of {num_rows} rows holds none", mend="Widen it.")
    if num_samples is not None:
        rows = rows[sampled_rows(len(rows), num_samples, rng)]
    return rows[:max_samples]


def split_order(num_rows: int, val_size: float, seed: int) -> tuple[Order, Order]:
    """The rows to train on and the rows held out; ``val_size`` is a share below 1, else a count.

    The same rows in the same order as ``datasets.Dataset.train_test_split(test_size, seed=seed)``, which
    LLaMA-Factory calls: a permutation by NumPy's default generator, held-out rows first.
    Raises ``UsageError`` where one side would be empty.
    """
    import numpy as np

    num_held_out = math.ceil(val_size * num_rows) if val_size < 1 else int(val_size)
    if not 0 < num_held_out < num_rows:
        raise UsageError(f"val_size {val_size:g} of {num_rows} rows leaves nothing on one side")
    order = np.random.default_rng(seed).permutation(num_rows)
    return order[num_held_out:], order[:num_held_out]
