"""Rows made from a seed row, tied to it and to each other: ``_origin.seed_row`` as keys that rows share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datakit.lineage.ancestry import ancestry, augmented_from, has_manifest
from datakit.mixing import mix
from datakit.split.look import NO_KEY, Notes, Place, key_of
from registry.remote import is_remote
from registry.sources import STDIN

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Families:
    """Pairs of row and key: rows with one key have the same seed row, or are it."""

    rows: np.ndarray
    keys: np.ndarray
    num_made: int  # rows with an _origin that names a seed row
    num_seeds: int  # seed rows named
    num_found: int  # of these, how many are among the rows


def find_families(notes: Notes) -> Families:
    """The families of ``notes``.

    A number counts in the file that is told with it. Where none is, it counts in the one file that ``datakit augment``
    made the row from by the manifests. Without a manifest it counts in the row's own file if that holds rows that were
    not made, else in the only source that does; there it never means a row that was itself made. What is no such number
    may still be an ``id``. Seed rows of files that are no sources are looked for among the rows that came from these.
    """
    import numpy as np

    named = np.frombuffer(notes.named, np.uint64)  # of the first rows only: those behind have no id
    id_rows, id_keys = (np.frombuffer(a, np.uint64) for a in notes.seeds.by_id)
    number_rows, number_keys, seed_rows, seed_keys, lost = _by_number(notes, named)
    moved_rows, moved_keys = _through_manifests(notes, lost)
    asked = np.unique(np.concatenate([id_keys, number_keys]))
    with_id = np.flatnonzero(np.isin(named, asked) & (named != NO_KEY)) if len(asked) else np.empty(0, np.int64)
    made_rows = np.concatenate([id_rows, number_rows]).astype(np.int64)
    rows = np.concatenate([made_rows, seed_rows, moved_rows, with_id])
    found = np.concatenate([seed_keys, moved_keys, named[with_id]])
    keys = np.concatenate([id_keys, number_keys, found])
    num_found = len(np.intersect1d(asked, found))
    return Families(rows, keys, len(np.unique(made_rows)), len(asked), num_found)


def _by_number(
    notes: Notes, named: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Made rows with the keys of the seed rows that they name by number, the seed rows found with theirs, and the
    numbers that were not, by their file.
    """
    import numpy as np

    rows, codes, numbers = (np.frombuffer(a, a.typecode).astype(np.int64) for a in notes.seeds.by_number)
    keys = np.zeros(len(rows), np.uint64)
    found = np.full(len(rows), -1, np.int64)
    made = np.frombuffer(notes.seeds.made, np.uint64).astype(np.int64)
    lost: dict[str, np.ndarray] = {}
    for place, code in notes.seeds.places.items():
        mask = codes == code
        file = _file_of(place, notes, made)
        keys[mask] = _keys(file, numbers[mask])
        at = _places_of(numbers[mask], file, notes)
        if place.told is None:
            at[np.isin(at, made)] = -1
            as_id = np.array([key_of("id", str(n)) for n in numbers[mask][at < 0].tolist()], np.uint64)
            known = np.isin(as_id, named)
            keys[np.flatnonzero(mask)[at < 0][known]] = as_id[known]
        found[mask] = at
        if file and (at < 0).any():
            lost[file] = np.union1d(lost.get(file, np.empty(0, np.int64)), numbers[mask][at < 0])
    there = found >= 0
    return rows, keys, found[there], keys[there], lost


def _keys(file: str, numbers: np.ndarray) -> np.ndarray:
    """The keys of rows by their numbers in a file."""
    import numpy as np

    return mix(np.uint64(key_of("file", file)) + numbers.astype(np.uint64))


def _through_manifests(notes: Notes, lost: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rows that came from the ``lost`` rows of files by steps that manifests tell of, with the keys of these."""
    import numpy as np

    rows, keys = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    ends = [*(segment.start for segment in notes.segments[1:]), len(notes)]
    every = np.frombuffer(notes.number, notes.number.typecode)
    for segment, end in zip(notes.segments, ends, strict=True) if lost else ():
        for descent in ancestry(segment.file):
            wanted = np.isin(descent.numbers, lost.get(_real(descent.path), np.empty(0, np.int64)))
            own = every[segment.start : end]
            numbers = descent.places[wanted] + 1
            at = np.minimum(np.searchsorted(own, numbers), len(own) - 1)
            there = own[at] == numbers
            rows.append(segment.start + at[there])
            keys.append(_keys(_real(descent.path), descent.numbers[wanted][there]))
    return np.concatenate(rows), np.concatenate(keys)


def _file_of(place: Place, notes: Notes, made: np.ndarray) -> str:
    """The real path of the file in which a number counts; empty where nothing tells."""
    sources = {_real(segment.file) for segment in notes.segments}
    if place.told is not None:
        beside = _real(str(Path(place.file).parent / place.told))
        return beside if beside in sources and _real(place.told) not in sources else _real(place.told)
    sources_of_made = {_real(path) for path in augmented_from(place.file)}
    if len(sources_of_made) == 1:
        return sources_of_made.pop()
    if sources_of_made or has_manifest(place.file):  # rows were moved, so that the numbers are of some other file
        return ""
    holding = {_real(file) for file in _files_with_own_rows(notes, made)}
    if _real(place.file) in holding:
        return _real(place.file)
    return holding.pop() if len(holding) == 1 else ""


def _files_with_own_rows(notes: Notes, made: np.ndarray) -> set[str]:
    """The sources with rows that were not made from others."""
    import numpy as np

    starts = np.array([*(segment.start for segment in notes.segments), len(notes)])
    num_made = np.diff(np.searchsorted(made, starts))
    return {
        segment.file
        for segment, count, size in zip(notes.segments, num_made, np.diff(starts), strict=True)
        if count < size
    }


def _places_of(numbers: np.ndarray, file: str, notes: Notes) -> np.ndarray:
    """The place of each row number of ``file`` among the notes, -1 where there is none."""
    import numpy as np

    every = np.frombuffer(notes.number, notes.number.typecode)
    found = np.full(len(numbers), -1, np.int64)
    ends = [*(segment.start for segment in notes.segments[1:]), len(notes)]
    for segment, end in zip(notes.segments, ends, strict=True):
        if _real(segment.file) != file:
            continue
        own = every[segment.start : end]
        at = np.searchsorted(own, numbers)
        hit = (at < len(own)) & (own[np.minimum(at, len(own) - 1)] == numbers)
        found[hit & (found < 0)] = segment.start + at[hit & (found < 0)]
    return found


def _real(file: str) -> str:
    return file if file == STDIN or is_remote(file) else os.path.realpath(file)
