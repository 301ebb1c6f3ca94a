"""Exact and near duplicates of made rows: of seeds, of rows of other files, and of earlier made rows, as rows come."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datakit.augment.filters.bands import BandIndex
from datakit.augment.filters.candidate import Candidate, Twin
from datakit.augment.filters.parts import compared_texts, compared_value
from datakit.augment.filters.plan import Rules
from datakit.augment.rollout import Seed
from datakit.dedup.bands import band_keys, bands_for
from datakit.dedup.grams import tokens_of_rows
from datakit.dedup.near import MOST_COMPARED
from datakit.dedup.normal import KEY_BYTES, key_of
from datakit.dedup.places import Places
from datakit.dedup.plan import DEFAULT_SHINGLE
from datakit.dedup.spool import jaccard, open_spool
from datakit.dedup.table import KeyTable
from registry.records import Record

if TYPE_CHECKING:
    import numpy as np

    from datakit.dedup.tokens import Grams

MADE, SEED, OTHER = range(3)  # what a place is one of


class Twins:
    """All rows that later ones are compared with. Close it, for the n-grams on disk."""

    def __init__(self, rules: Rules, folder: Path | None = None) -> None:
        self._rules = rules
        self._table = KeyTable()
        self._places = Places()
        self._kinds = bytearray()
        self._instead: dict[int, tuple[int, float]] = {}  # place of a near duplicate -> the row that stays, how near
        self._near_to: array[int] = array("Q")  # places of the rows in the spool
        self._bands = bands_for(rules.near) if rules.near is not None else None
        self._index = BandIndex(self._bands.count) if self._bands is not None else None
        self._opened = open_spool(folder)
        self._spool = self._opened.__enter__() if self._bands is not None else None

    def close(self) -> None:
        """Give the disk back."""
        if self._spool is not None:
            self._spool = None
            self._opened.__exit__(None, None, None)

    def learn(self, kind: int, rows: Sequence[tuple[str, int, Record]]) -> None:
        """Rows that stay whatever they equal: seeds, and rows of other files, each with its file and number."""
        if rows:
            self._take(kind, [(file, number) for file, number, _ in rows], [record for *_, record in rows])

    def learn_seeds(self, seeds: Sequence[Seed]) -> None:
        """As ``learn``; seeds that are known already cost nothing more."""
        self.learn(SEED, [(seed.file, seed.number, seed.record) for seed in seeds if seed.record is not None])

    def find(self, rows: Sequence[Candidate]) -> None:
        """Put into each row its twin, if it has one; rows without are compared with later ones from now on."""
        found = self._take(MADE, [("", row.number) for row in rows], [row.made.record for row in rows])
        for row, twin in zip(rows, found, strict=True):
            row.twin = twin

    def _take(self, kind: int, names: Sequence[tuple[str, int]], records: Sequence[Record]) -> list[Twin | None]:
        """Enter rows, and tell the twins of those of made rows."""
        import numpy as np

        first = self._enter(kind, names)
        places = np.arange(first, first + len(records))
        kept = self._table.first_places(self._exact_keys(records), places)
        shingles = self._begin_near(records)
        twins: list[Twin | None] = [None] * len(records)
        for at, place in enumerate(places.tolist()):
            equal = int(kept[at])
            if equal != place and (kind != MADE or self._counts_as_twin(equal)):
                twins[at] = self._twin_of_equal(equal)
                continue
            if shingles is None or not shingles.counts[at]:
                continue
            near = self._near(at, shingles) if kind == MADE else None
            if near is None and (kind != MADE or self._rules.within):
                self._keep(at, place, shingles)
            elif near is not None:
                self._instead[place] = near
                twins[at] = Twin(self._name(near[0]), near[1], exact=False)
        return twins

    def _enter(self, kind: int, names: Sequence[tuple[str, int]]) -> int:
        first = self._places.count
        for file, number in names:
            self._places.add(file, [number])
        self._kinds.extend([kind] * len(names))
        return first

    def _exact_keys(self, records: Sequence[Record]) -> np.ndarray:
        import numpy as np

        values = (compared_value(record, questions=self._rules.questions) for record in records)
        joined = b"".join(key_of(value, normalise=True) for value in values)
        return np.frombuffer(joined, np.uint64).reshape(-1, KEY_BYTES // 8)

    def _begin_near(self, records: Sequence[Record]) -> Grams | None:
        """The n-grams of each row, by whose bands the index is asked next; None where near duplicates stay."""
        if self._bands is None or self._index is None:
            return None
        texts, marks = zip(*(compared_texts(r, questions=self._rules.questions) for r in records), strict=True)
        shingles = tokens_of_rows(texts).shingles(DEFAULT_SHINGLE, marks)
        self._index.begin(band_keys(shingles, self._bands))
        return shingles

    def _counts_as_twin(self, place: int) -> bool:
        kind = self._kinds[place]
        return kind == OTHER or (self._rules.of_seeds if kind == SEED else self._rules.within)

    def _twin_of_equal(self, place: int) -> Twin:
        """What equals a row that is dropped as near is as near as that to the row that stays."""
        if place in self._instead:
            place, similarity = self._instead[place]
            return Twin(self._name(place), similarity, exact=False)
        return Twin(self._name(place), 1.0, exact=True)

    def _near(self, at: int, shingles: Grams) -> tuple[int, float] | None:
        """The first row that is near, of those that share most bands, with its place."""
        import numpy as np

        assert self._index is not None
        assert self._spool is not None
        assert self._rules.near is not None
        sharing = self._index.sharing(at)
        likely = sorted(sharing, key=lambda row: (-sharing[row], row))
        likely = [row for row in likely if self._counts_as_twin(self._near_to[row])]
        own = np.unique(shingles.hashes[shingles.starts[at] : shingles.starts[at + 1]]) if likely else None
        for row in likely[:MOST_COMPARED]:
            assert own is not None
            similarity = jaccard(own, self._spool.of(row))
            if similarity >= self._rules.near:
                return self._near_to[row], similarity
        return None

    def _keep(self, at: int, place: int, shingles: Grams) -> None:
        """Compare later rows with this one."""
        import numpy as np

        assert self._index is not None
        assert self._spool is not None
        row = len(self._spool)
        self._spool.add(shingles.only(np.array([at])))
        self._spool.flush()
        self._near_to.append(place)
        self._index.add(at, row)

    def _name(self, place: int) -> str:
        """A row for people."""
        file, number = self._places.where(place)
        kind = self._kinds[place]
        return f"made row {number}" if kind == MADE else f"{'seed ' if kind == SEED else ''}{file}, row {number}"
