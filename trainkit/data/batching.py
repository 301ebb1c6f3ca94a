"""Lengths to micro-batches in which little is padding."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

PAD_MULTIPLE = 8  # of tokens in a padded row, as LLaMA-Factory's collator; matrix units like it
MEGABATCHES = 50  # steps whose examples are sorted together, as transformers does
PIECE = 256  # examples cut at once: the time of a cut grows with their square, and more would save next to nothing


def length_grouped(lengths: Sequence[int], order: Sequence[int], step_size: int) -> list[int]:
    """``order`` with examples of like length near one another, the longest of all first.

    As transformers' ``get_length_grouped_indices`` does it: stretches of 50 steps (fewer in small data) are sorted from
    the longest to the shortest; the longest example then changes places with the first, so that what does not fit into
    memory fails at the first step.
    """
    size = step_size * max(min(len(order) // (4 * step_size), MEGABATCHES), 1)
    grouped: list[int] = []
    for first in range(0, len(order), size):
        grouped += sorted(order[first : first + size], key=lambda n: -lengths[n])
    if grouped:
        longest = max(range(0, len(grouped), size), key=lambda place: lengths[grouped[place]])
        grouped[0], grouped[longest] = grouped[longest], grouped[0]
    return grouped


def balanced(lengths: Sequence[int], batch_size: int, accumulation: int, world: int) -> list[list[list[int]]]:
    """The examples of one step (by their places in ``lengths``) as micro-batches: rank → micro-batch → places.

    Each rank gets at most ``accumulation`` micro-batches. None takes more memory than one of ``batch_size`` of the
    step's longest; within that, long examples are few together and short ones many, so that little is padding. Several
    ranks wait for the busiest: for them a second way, with micro-batches as even as can be, is taken where it gives
    the busiest rank less to do.
    """
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    if not order:
        return [[] for _ in range(world)]
    descending = [lengths[place] for place in order]
    most, limit = accumulation * world, batch_size * descending[0]
    limits = [limit] if world == 1 else [limit, _least_limit(descending, most, limit)]
    cuts = (_cut(descending, batch_size, most, limit) for limit in limits)
    ways = [
        _dealt([(descending[a] * (b - a), order[a:b]) for a, b in pairwise(c)], accumulation, world) for c in cuts if c
    ]
    return min(ways, key=lambda way: way[0])[1]


def _dealt(micro: Sequence[tuple[int, list[int]]], accumulation: int, world: int) -> tuple[int, list[list[list[int]]]]:
    """Micro-batches with their padded tokens, each from the largest on to the rank with the least to do: the tokens of
    the busiest rank, and the micro-batches of every rank."""
    shares: list[list[list[int]]] = [[] for _ in range(world)]
    loads = [0] * world
    for tokens, batch in sorted(micro, key=lambda one: -one[0]):
        rank = min((r for r in range(world) if len(shares[r]) < accumulation), key=loads.__getitem__)
        shares[rank].append(batch)
        loads[rank] += tokens
    return max(loads), shares


def _least_limit(descending: Sequence[int], most: int, enough: int) -> int:
    """The fewest tokens within which each of at most ``most`` stretches can stay; ``enough`` is known to do."""

    def num_stretches(limit: int) -> int:
        first, found = 0, 0
        while first < len(descending):
            first, found = first + limit // max(descending[first], 1), found + 1
        return found

    return bisect_left(
        range(enough), True, lo=min(descending[0], enough), key=lambda limit: num_stretches(limit) <= most
    )


def _cut(descending: Sequence[int], batch_size: int, most: int, limit: int) -> list[int]:
    """``least_padding``, a piece at a time, for speed; empty where no such cut was found."""
    size = batch_size * max(PIECE // batch_size, 1)
    cuts = [0]
    for first in range(0, len(descending), size):
        for_the_rest = -(-max(len(descending) - first - size, 0) // batch_size)
        found = least_padding(descending[first : first + size], most - (len(cuts) - 1) - for_the_rest, limit)
        if not found:
            return []
        cuts += [first + end for end in found[1:]]
    return cuts


def least_padding(descending: Sequence[int], most: int, limit: int) -> list[int]:
    """Where to cut lengths, from the longest to the shortest, into at most ``most`` stretches of at most ``limit`` padded
    tokens each, with the fewest padded tokens in all: the ends of the stretches, after a 0. Of equal cuts the one into
    the fewest stretches; empty where there is none.

    By dynamic programming: the best cut of the first so many lengths into k stretches ends one stretch after a best
    cut into k - 1.
    """
    import numpy as np

    size = len(descending)
    sizes = np.asarray(descending, dtype=np.float64)
    counts = np.arange(1, size + 1)[None, :] - np.arange(size)[:, None]  # [first, last]: examples of that stretch
    tokens = counts * sizes[:, None]
    tokens = np.where((counts > 0) & (tokens <= limit), tokens, np.inf)
    best = np.where(np.arange(size + 1) == 0, 0.0, np.inf)  # fewest padded tokens of the first so many lengths
    starts: list[list[int]] = []  # of the last stretch
    sums: list[float] = []
    for _ in range(min(most, size)):
        every = best[:-1, None] + tokens
        starts.append(every.argmin(axis=0).tolist())
        best = np.concatenate([[np.inf], every.min(axis=0)])
        sums.append(float(best[size]))
    if not np.isfinite(sums).any():
        return []
    cuts = [size]
    for start in reversed(starts[: sums.index(min(sums)) + 1]):
        cuts.append(start[cuts[-1] - 1])
    return cuts[::-1]
