"""The one row of a step's inputs that a row of its output came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from datakit.lineage.passed import passed_rows, read_file, shuffled_order
from datakit.lineage.remake import makes, may_mend, remake_of
from datakit.lineage.steps import RoadEnds, Step, Told
from datakit.origins import ID, SeedRef, name_of, seeds_of
from registry.rows import Row

MOST_SEARCHED_BYTES = 256 << 20  # inputs are searched for a row with the right content only up to this size
MOST_TWINS = 3  # rows of the same content that are named

COMPARED = "counted, content compared"
COUNTED = "counted"  # where the step cannot be done again for one row, to compare what it makes of it
SEARCHED = "the only row with its content"
NAMED = "named by its _origin"


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A row of an input: where the file lies now, its name in the manifest, the row, and how it was found."""

    path: str
    told: str
    row: Row
    how: str


def ancestor_of(step: Step, place: int, data: Mapping[str, Any]) -> Ancestor:
    """The row that row ``place`` (from 0) of the step's file, with the content ``data``, came from.

    Counting finds it where the books tell who was left out; the content is compared where the step can be done again
    for one row. Where counting fails, the inputs are searched for the content. Raises ``RoadEnds`` where neither tells.
    """
    if step.command == "augment":
        return _seed_of(step, data)
    remake = remake_of(step)
    try:
        order = shuffled_order(step)
        whole = step.rows_before + place
        told, row = next(passed_rows(step, whole if order is None else int(order[whole])), (None, None))
        if told is None or row is None:
            raise RoadEnds("its inputs have fewer rows than they had")
        compared = remake is not None and makes(remake, row, data)
        found = Ancestor(step.find(_told(step, told)), told, row, COMPARED if compared else COUNTED)
        if compared or remake is None or may_mend(step):
            return found
        reason = f"counting leads to {found.path}, row {row.number}, which holds something else"
    except RoadEnds as end:
        reason = str(end)
    if remake is None:
        raise RoadEnds(reason)
    return _search(step, remake, data, reason)


def _told(step: Step, name: str) -> Told:
    return next(told for told in step.inputs if told.file == name)


def _search(step: Step, remake: Any, data: Mapping[str, Any], reason: str) -> Ancestor:
    """The one row of the inputs that becomes ``data``. Raises ``RoadEnds``, with ``reason``, where there is not just one."""
    paths = {step.find(told): told.file for told in step.inputs}
    size = sum(Path(path).stat().st_size for path in paths if Path(path).is_file())
    if size > MOST_SEARCHED_BYTES:
        raise RoadEnds(f"{reason}; and its inputs ({size / 1e6:,.0f} MB) are too large to be searched for its content")
    found: list[Ancestor] = []
    for path, told in paths.items():
        rows = (row for row in read_file(path) if isinstance(row, Row) and makes(remake, row, data))
        found += [Ancestor(path, told, row, SEARCHED) for row in islice(rows, MOST_TWINS + 1 - len(found))]
    if len(found) == 1:
        return found[0]
    if not found:
        raise RoadEnds(f"{reason}; and no row of its inputs becomes this one")
    named = ", ".join(f"{one.path}, row {one.row.number}" for one in found[:MOST_TWINS])
    more = " and others" if len(found) > MOST_TWINS else ""
    raise RoadEnds(f"{reason}; and several rows have its content: {named}{more}")


def _seed_of(step: Step, data: Mapping[str, Any]) -> Ancestor:
    """The seed row that a made row names. Raises ``RoadEnds``."""
    refs = seeds_of(data)
    if not refs:
        raise RoadEnds("it has no _origin that names a seed row")
    found = find_seed(refs[0], [(told.file, step.find(told)) for told in step.inputs])
    if found is None:
        raise RoadEnds(f"its seed row ({refs[0]}) is not among the inputs")
    return found


def find_seed(ref: SeedRef, files: list[tuple[str, str]]) -> Ancestor | None:
    """The row that ``ref`` names among ``files``, each given as it is told and where it lies; None where it is not there.

    A number without a file counts in the only file. Raises ``RoadEnds`` where a file cannot be read.
    """
    likely = [one for one in files if ref.file in (None, one[0]) or Path(str(ref.file)).name == Path(one[0]).name]
    for told, path in likely if ref.row is None or ref.file or len(files) == 1 else []:
        for row in read_file(path):
            if not isinstance(row, Row):
                continue
            by_number = ref.row is not None and row.number == ref.row
            by_id = ref.row is None and ref.id is not None and row.data.get(ID) is not None
            if by_number or (by_id and name_of(row.data[ID]) == ref.id):
                return Ancestor(path, told, row, NAMED)
            if ref.row is not None and row.number > ref.row:
                break
    return None
