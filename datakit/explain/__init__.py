"""One row of a file: the steps that it came through, back to where it began, and how it encodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datakit.explain.deeds import deeds_of
from datakit.explain.entries import entries_of
from datakit.layout import resolve_layout
from datakit.lineage.ancestor import Ancestor, ancestor_of, find_seed
from datakit.lineage.passed import read_file
from datakit.lineage.steps import RoadEnds, Step, shortest, step_of
from datakit.origins import seeds_of
from datakit.preview import Shown, open_renderer, show_row
from registry.errors import UsageError
from registry.rows import BadRow, Row
from registry.sources import STDIN, expand_sources


@dataclass(frozen=True, slots=True)
class Hop:
    """One step back: what was done (``command`` and ``deeds``, told in lines), and the row that it was done to.

    ``before`` is None where that row is not known, and ``unknown`` then says why. ``step`` is None for a row that names
    its seed row itself, without a manifest.
    """

    file: str
    row: Row
    step: Step | None
    command: str
    deeds: tuple[str, ...]
    before: Ancestor | None
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class Explained:
    """A row with its road, nearest step first; ``end`` says why the road goes no further back."""

    file: str
    row: Row | BadRow
    hops: tuple[Hop, ...]
    end: str
    entries: tuple[str, ...]  # names under which its file is registered, each with the dataset_info.json
    encoding: Shown | None  # None where its columns belong to no known format


def explain_row(file: str, number: int, *, model: Path | None = None, template: str | None = None) -> Explained:
    """Follow row ``number`` (as rejects and manifests count) of ``file`` back through the manifests of its steps.

    A row of a file of rejects is followed to the row that was rejected. With ``model`` or ``template`` it is rendered
    as training would. Raises ``UsageError`` for what is no file, rows that are not there, and unusable models.
    """
    tokenizer, renderer = open_renderer(model, template)
    if file == STDIN:
        raise UsageError("of stdin nothing is left to be explained", where=file, mend="Name a file.")
    files = expand_sources([file])
    if len(files) != 1:
        raise UsageError(f"this is {len(files)} files, and a row is one of one file", where=file, mend="Name the file.")
    path = files[0]
    row, place = _find_row(path, number)
    hops, end = _road(path, row, place) if isinstance(row, Row) else ((), "the row cannot be read")
    entries = entries_of(path)
    layout = entries[0].layout if entries else None
    if layout is None and isinstance(row, Row):
        try:
            layout = resolve_layout("auto", {}, [row])
        except UsageError:  # a row of no known format still has a road
            layout = None
    shown = show_row(row, layout, renderer, tokenizer) if layout is not None or isinstance(row, BadRow) else None
    return Explained(path, row, hops, end, tuple(entry.told for entry in entries), shown)


def _find_row(path: str, number: int) -> tuple[Row | BadRow, int]:
    """The row with a number, and its place (from 0) among the rows of its file."""
    last = 0
    try:
        for place, row in enumerate(read_file(path)):
            if row.number == number:
                return row, place
            last = row.number
            if last > number:
                raise UsageError("this line is blank, so there is no such row", where=f"{path}, row {number}")
    except RoadEnds as end:
        raise UsageError(str(end)) from None
    raise UsageError(f"there is no such row; the last one is row {last:,}", where=f"{path}, row {number:,}")


def _road(path: str, row: Row, place: int) -> tuple[tuple[Hop, ...], str]:
    """The steps back from a row, and why they end."""
    hops: list[Hop] = []
    seen = {(path, row.number)}
    while True:
        try:
            hop = _hop(path, row, place)
        except RoadEnds as end:
            return tuple(hops), str(end)
        if hop is None:
            return tuple(hops), f"no manifest tells what made {path}"
        hops.append(hop)
        if hop.before is None:
            return tuple(hops), hop.unknown
        path, row = hop.before.path, hop.before.row
        if (path, row.number) in seen:
            return tuple(hops), f"{path}, row {row.number} was met before: the road leads in a circle"
        seen.add((path, row.number))
        place = row.number - 1  # in what we wrote; other files are where the road begins


def _hop(path: str, row: Row, place: int) -> Hop | None:
    """The last step that made a row; None where there is none. Raises ``RoadEnds`` where its manifest is not to be believed."""
    step = step_of(path)
    if step is None:
        return _made_hop(path, row) if seeds_of(row.data) else None
    if step.is_rejects:
        return _find(path, row, step, f"rejected by {step.command}", lambda: _rejected_row(step, row))
    return _find(path, row, step, step.command, lambda: ancestor_of(step, place, row.data))


def _find(path: str, row: Row, step: Step | None, command: str, find: Callable[[], Ancestor]) -> Hop:
    try:
        before, unknown = find(), ""
    except RoadEnds as end:
        before, unknown = None, str(end)
    return Hop(path, row, step, command, deeds_of(step, before, row), before, unknown)


def _rejected_row(step: Step, fault: Row) -> Ancestor:
    told = next((told for told in step.inputs if told.file == fault.data.get("file")), None)
    if told is None:
        raise RoadEnds(f"{fault.data.get('file')} is none of the files that were read")
    path = step.find(told)
    for row in read_file(path):
        if row.number == fault.data.get("row"):
            if isinstance(row, Row):
                return Ancestor(path, told.file, row, "named in the file of rejects")
            raise RoadEnds(f"{row.where} cannot be read: {row.reason}")
    raise RoadEnds(f"{path} has no row {fault.data.get('row')}")


def _made_hop(path: str, row: Row) -> Hop:
    """The step that a row's own ``_origin`` tells of, where no manifest does."""

    def seed() -> Ancestor:
        ref = seeds_of(row.data)[0]
        if ref.file is None and ref.row is not None:
            raise RoadEnds(f"its seed row is row {ref.row} of a file that is not told")
        places = [str(folder / ref.file) for folder in (Path(), Path(path).parent)] if ref.file else [path]
        there = [shortest(place) for place in dict.fromkeys(places) if Path(place).is_file()]
        found = next((one for place in there if (one := find_seed(ref, [(place, place)])) is not None), None)
        if found is None:
            raise RoadEnds(f"its seed row ({ref}) is not to be found")
        return found

    return _find(path, row, None, "augment", seed)
