"""How varied rows are: the share of n-grams that are distinct, and how many rows lie in families of rows that are alike.

The share of distinct n-grams falls as texts get longer, whatever they say; so two sets of rows are only compared by as
many tokens of the one as of the other. The measure is distinct-n of Li et al. 2016, https://arxiv.org/abs/1510.03055.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from datakit.augment.filters.parts import parts_of
from datakit.dedup.bands import band_keys, bands_for
from datakit.dedup.grams import tokens_of_rows
from datakit.dedup.spool import jaccard
from datakit.dedup.tokens import Grams, Tokens, grams_of
from registry.records import Record

if TYPE_CHECKING:
    import numpy as np

SAMPLE = 2_000  # rows of each kind that are looked at
ROW_TOKENS = 1_000  # of a row's start
SIZES = (1, 2, 3)  # tokens in the n-grams that are counted
ALIKE = 0.5  # Jaccard similarity of rows of one family; what is more alike than the filters allow was dropped
SHINGLE = 3
MOST_OF_BUCKET = 64  # rows that share a band and are compared with each other


class Sample:
    """A sample of rows, the same for the same rows in the same order: each has the same chance to be in it."""

    def __init__(self, seed: int = 0) -> None:
        from random import Random

        self._rng = Random(seed)
        self._rows: list[list[np.ndarray]] = []
        self._texts: list[tuple[int, list[str]]] = []  # to be read as tokens together: place, texts
        self.num_rows = 0

    def add(self, record: Record) -> None:
        """One row (Vitter's algorithm R, https://doi.org/10.1145/3147.3165)."""
        place = self.num_rows if self.num_rows < SAMPLE else self._rng.randrange(self.num_rows + 1)
        self.num_rows += 1
        if place < SAMPLE:
            if place == len(self._rows):
                self._rows.append([])
            self._texts.append((place, [part.text[: 20 * ROW_TOKENS] for part in parts_of(record)]))
        if len(self._texts) >= 256:
            self._read()

    def rows(self) -> list[list[np.ndarray]]:
        """The tokens (as hashes) of each text of each row, ``ROW_TOKENS`` a row at most; rows in no order, so that those
        made of one seed do not stand together."""
        self._read()
        return self._rng.sample(self._rows, len(self._rows))

    def _read(self) -> None:
        if not self._texts:
            return
        found = tokens_of_rows([texts for _, texts in self._texts])
        starts, at = found.tokens.starts.tolist(), 0
        for place, texts in self._texts:
            row: list[np.ndarray] = []
            room = ROW_TOKENS
            for _ in texts:
                tokens = found.tokens.hashes[starts[at] : min(starts[at + 1], starts[at] + room)].copy()
                room -= len(tokens)
                row.append(tokens)
                at += 1
            self._rows[place] = row
        self._texts.clear()


def diversity(kept: Sample, seeds: Sample) -> dict[str, Any]:
    """Of both: distinct-1, -2 and -3 over as many tokens of each, and the families of rows that are alike."""
    samples = {"kept": kept.rows(), "seeds": seeds.rows()}
    sizes = [sum(len(text) for row in rows for text in row) for rows in samples.values()]
    num_tokens = min(size for size in sizes if size) if any(sizes) else 0
    found: dict[str, Any] = {"tokens_compared": num_tokens, "alike_from": ALIKE}
    for name, rows in samples.items():
        found[name] = {"rows_looked_at": len(rows), **_distinct(rows, num_tokens), **_families(rows)}
    return found


def _distinct(rows: Sequence[Sequence[np.ndarray]], num_tokens: int) -> dict[str, float | None]:
    """The share of distinct n-grams in the first ``num_tokens`` tokens of some rows; None where there is no n-gram."""
    import numpy as np

    texts: list[np.ndarray] = []
    room = num_tokens
    for text in (text for row in rows for text in row):
        if room <= 0:
            break
        texts.append(text[:room])
        room -= len(text)
    tokens = _tokens(texts)
    shares: dict[str, float | None] = {}
    for size in SIZES:
        hashes = grams_of(tokens, size).hashes
        shares[f"distinct_{size}"] = round(len(np.unique(hashes)) / len(hashes), 4) if len(hashes) else None
    return shares


def _families(rows: Sequence[Sequence[np.ndarray]]) -> dict[str, Any]:
    """Rows that are alike, directly or by others between them: how many families of at least two, and how large."""
    import numpy as np

    leaders = list(range(len(rows)))

    def leader(row: int) -> int:
        while leaders[row] != row:
            leaders[row] = leaders[leaders[row]]
            row = leaders[row]
        return row

    shingles = _shingles(rows)
    sets = [np.unique(shingles.hashes[a:b]) for a, b in zip(shingles.starts[:-1], shingles.starts[1:], strict=True)]
    for bucket in _buckets(shingles):
        for place, row in enumerate(bucket):
            for other in bucket[:place]:
                if leader(row) != leader(other) and jaccard(sets[row], sets[other]) >= ALIKE:
                    leaders[max(leader(row), leader(other))] = min(leader(row), leader(other))
    sizes = [size for size in Counter(map(leader, range(len(rows)))).values() if size > 1]
    return {
        "families": len(sizes),
        "rows_in_families": sum(sizes),
        "share_in_families": round(sum(sizes) / len(rows), 4) if rows else 0.0,
        "rows_per_family": round(sum(sizes) / len(sizes), 2) if sizes else 0.0,
    }


def _shingles(rows: Sequence[Sequence[np.ndarray]]) -> Grams:
    """The n-grams of each row."""
    import numpy as np

    found = grams_of(_tokens([text for row in rows for text in row]), SHINGLE)
    ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
    return Grams(found.hashes, np.concatenate([np.zeros(1, np.int64), found.starts[ends]]))


def _buckets(shingles: Grams) -> list[list[int]]:
    """Rows that share a band, of each band."""
    import numpy as np

    some = np.flatnonzero(shingles.counts > 0)
    if len(some) < 2:
        return []
    found = []
    for keys in band_keys(shingles.only(some), bands_for(ALIKE)):
        order = np.argsort(keys, kind="stable")
        edges = np.flatnonzero(np.diff(keys[order])) + 1
        found += [some[np.sort(piece)].tolist()[:MOST_OF_BUCKET] for piece in np.split(order, edges) if len(piece) > 1]
    return found


def _tokens(texts: Sequence[np.ndarray]) -> Tokens:
    import numpy as np

    starts = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=starts[1:])
    return Tokens(np.concatenate([np.empty(0, np.uint64), *texts]), starts)
