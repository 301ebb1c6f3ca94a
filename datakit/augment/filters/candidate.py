"""A made row with all that filters read of it, prepared for many rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from datakit.augment.filters.parts import Part, compared_texts, new_parts, parts_of, seeds_of
from datakit.augment.rollout import Made, Seed
from datakit.dedup.grams import tokens_of_rows
from datakit.validate.faults import Fault
from registry.records import Record

if TYPE_CHECKING:
    import numpy as np

SHINGLE = 5  # tokens in the n-grams by which a row is compared with its seeds


@dataclass(frozen=True, slots=True)
class Twin:
    """The row that another one repeats: ``similarity`` is 1 for exact duplicates, ``other`` names it."""

    other: str
    similarity: float
    exact: bool


@dataclass(slots=True)
class Candidate:
    """``number`` counts made rows from 1. ``new`` are the parts that no seed has, ``seed_parts`` those of all seeds.

    ``shingles`` are the different n-grams of what is compared, ``seed_shingles`` the same of each seed.
    """

    number: int
    data: dict[str, Any]
    made: Made
    seeds: list[Seed]
    parts: list[Part]
    seed_parts: list[Part]
    new: list[Part]
    faults: list[Fault] = field(default_factory=list)
    shingles: np.ndarray | None = None
    seed_shingles: list[np.ndarray] = field(default_factory=list)
    twin: Twin | None = None


def candidates(rows: Sequence[tuple[dict[str, Any], Made]], first: int, *, questions: bool) -> list[Candidate]:
    """Rows as candidates, numbered from ``first`` on; the work on seeds is done once for each."""
    found = []
    known: dict[int, list[Part]] = {}
    records: list[Record] = [made.record for _, made in rows]
    places: dict[int, int] = {}  # id of a seed's record -> index in ``records``
    for number, (data, made) in enumerate(rows, start=first):
        seeds = seeds_of(made)
        for seed in seeds:
            assert seed.record is not None
            if id(seed.record) not in known:
                known[id(seed.record)] = parts_of(seed.record)
                places[id(seed.record)] = len(records)
                records.append(seed.record)
        parts = parts_of(made.record)
        seed_parts = [part for seed in seeds for part in known[id(seed.record)]]
        found.append(Candidate(number, data, made, seeds, parts, seed_parts, new_parts(parts, seed_parts)))
    shingles = _shingles(records, questions=questions)
    for index, candidate in enumerate(found):
        candidate.shingles = shingles[index]
        candidate.seed_shingles = [shingles[places[id(seed.record)]] for seed in candidate.seeds]
    return found


def _shingles(records: Sequence[Record], *, questions: bool) -> list[np.ndarray]:
    """The different n-grams of each record, sorted."""
    import numpy as np

    texts, marks = zip(*(compared_texts(record, questions=questions) for record in records), strict=True)
    # What is chosen and what is rejected makes no difference here.
    grams = tokens_of_rows(texts).shingles(SHINGLE, [(0, 0)] * len(marks))
    return [np.unique(piece) for piece in np.split(grams.hashes, grams.starts[1:-1])]
