"""Bands of MinHash signatures: how a threshold sets their number and size, and the keys that near texts share."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from datakit.mixing import mix

if TYPE_CHECKING:
    import numpy as np

    from datakit.dedup.tokens import Grams

PERMUTATIONS = 128
FOUND = 0.99  # the least probability with which a pair at the threshold is to be found
SEED = 1
_BASE = 0xD1342543DE82EF95  # of the polynomial that makes one key of a band; odd


@dataclass(frozen=True, slots=True)
class Bands:
    """``count`` bands of ``rows`` values each, out of ``permutations``: near pairs agree in all values of some band."""

    permutations: int
    count: int
    rows: int

    def found(self, similarity: float) -> float:
        """The probability that a pair with this Jaccard similarity shares a band: 1 - (1 - s**rows)**count.

        Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4.2. For independent values; those of rensa's
        R-MinHash spread less, and find a little more.
        """
        return 1 - (1 - similarity**self.rows) ** self.count


def bands_for(threshold: float, permutations: int = PERMUTATIONS) -> Bands:
    """The largest bands that still find a pair at the threshold (0 to 1) with a probability of ``FOUND``.

    The larger the bands, the fewer pairs below the threshold have to be looked at.
    """
    best = Bands(permutations, permutations, 1)
    for rows in range(2, permutations + 1):
        bands = Bands(permutations, permutations // rows, rows)
        if bands.found(threshold) < FOUND:
            break
        best = bands
    return best


def band_keys(grams: Grams, bands: Bands) -> np.ndarray:
    """The keys of each group of n-grams, uint64 [bands, groups]. Groups that share n-grams are likely to share keys."""
    import numpy as np
    from rensa import RMinHash

    groups = len(grams.starts) - 1
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        grams.hashes, grams.starts.astype(np.uint64), bands.permutations, SEED
    )
    values = np.fromiter(chain.from_iterable(matrix.to_rows()), np.uint64, groups * bands.permutations)
    values = values.reshape(groups, bands.permutations)[:, : bands.count * bands.rows]
    values = np.ascontiguousarray(values.reshape(groups, bands.count, bands.rows).transpose(2, 1, 0))
    keys = np.zeros((bands.count, groups), np.uint64)
    for row in values:
        keys *= np.uint64(_BASE)
        keys += row
    return mix(keys)
