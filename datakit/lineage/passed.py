"""Which rows of a step's inputs became the rows of its output: all that it did not leave out, in the order they had."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from datakit.lineage.steps import RoadEnds, Step
from datakit.shuffle import Shuffle
from registry.errors import TunekitError
from registry.rows import BadRow, Row, read_rows

if TYPE_CHECKING:
    import numpy as np

WHERE, LIMIT = "--where", "--limit"  # rows left out by these are counted, and not listed
JUDGED_ROWS = 256


def passed_rows(step: Step, skip: int = 0) -> Iterator[tuple[str, Row]]:
    """The row that each row of the output came from, from output row ``skip`` (counted from 0) on; for a step that
    shuffles, in the order before it did. Each comes with the name of its file in the manifest.

    Whole files that lie before the first one wanted are not read. Raises ``RoadEnds`` where the books of the step do
    not tell who was left out, or a file is not what it was.
    """
    if step.command == "split":
        yield from islice(_of_side(step), skip, None)
        return
    copies = _rows_of_each(step)
    first, part = divmod(skip, copies)
    for found in _survivors(step, first):
        for _ in range(copies - part):
            yield found
        part = 0


def shuffled_order(step: Step) -> np.ndarray | None:
    """For each row of the output its place (from 0) before the step shuffled; None where it did not."""
    import numpy as np

    if not step.options.get("shuffle"):
        return None
    count = step.rows_out + step.filtered.get(LIMIT, 0)
    with Shuffle(int(step.options["seed"]), limit=step.options.get("limit")) as mixer:
        for number in range(count):
            mixer.add(b"%d" % number)
        order = np.fromiter(map(int, mixer.lines()), np.int64)
    if len(order) != step.rows_out:
        raise RoadEnds(f"its order cannot be told: the shuffle gives {len(order):,} rows, not {step.rows_out:,}")
    return order


def read_file(path: str) -> Iterator[Row | BadRow]:
    """The rows of one file. Raises ``RoadEnds`` where it cannot be read."""
    try:
        yield from read_rows([path])
    except (TunekitError, OSError) as error:
        raise RoadEnds(f"{path} cannot be read: {error}") from None


def _rows_of_each(step: Step) -> int:
    """How many rows each row became: one, or where they are more, the same number for all. Raises ``RoadEnds``."""
    passed = step.rows_in - sum(step.rejected.values()) - sum(step.filtered.values())
    if not step.rows_added:
        return 1
    if not passed or (passed + step.rows_added) % passed:
        raise RoadEnds(f"{passed:,} rows became {passed + step.rows_added:,}, not equally many each")
    return (passed + step.rows_added) // passed


def _survivors(step: Step, skip: int) -> Iterator[tuple[str, Row]]:
    left_out = _left_out(step)
    where = step.options.get("where")
    for told in step.inputs:
        numbers = left_out.get(told.file, array("Q"))
        if where is None and told.rows is not None and skip >= told.rows - len(numbers):
            skip -= told.rows - len(numbers)
            continue
        rows = _without(read_file(step.find(told)), numbers)
        for row in _matching(rows, where) if where is not None else rows:
            if skip:
                skip -= 1
                continue
            yield told.file, row


def _left_out(step: Step) -> dict[str, array[int]]:
    """The numbers of the rows that were rejected, by their file, in order. Raises ``RoadEnds`` where they are not listed."""
    count = sum(step.rejected.values()) + sum(n for how, n in step.filtered.items() if how not in (WHERE, LIMIT))
    found: dict[str, array[int]] = {}
    if not count:
        return found
    listed = 0
    for told in (told for told in step.outputs if told.is_rejects):
        path = step.find(told)
        try:
            with Path(path).open("rb") as lines:
                for line in lines:
                    fault = orjson.loads(line)
                    found.setdefault(fault["file"], array("Q")).append(fault["row"])
                    listed += 1
        except (OSError, orjson.JSONDecodeError, LookupError, TypeError, OverflowError) as error:
            raise RoadEnds(f"{path} cannot be read: {type(error).__name__}: {error}") from None
    if listed != count:
        raise RoadEnds(f"{count:,} rows were left out, and only {listed:,} of them are listed")
    return {file: array("Q", sorted(numbers)) for file, numbers in found.items()}


def _without(rows: Iterator[Row | BadRow], numbers: array[int]) -> Iterator[Row]:
    """The rows whose number is not among ``numbers`` (in order)."""
    at = 0
    for row in rows:
        if at < len(numbers) and numbers[at] == row.number:
            at += 1
        elif isinstance(row, Row):
            yield row


def _matching(rows: Iterator[Row], where: str) -> Iterator[Row]:
    from datakit.where import parse_where

    condition = parse_where(where)
    while batch := list(islice(rows, JUDGED_ROWS)):
        verdicts = condition.judge([row.data for row in batch])
        yield from (row for row, verdict in zip(batch, verdicts, strict=True) if verdict is True)


def _of_side(step: Step) -> Iterator[tuple[str, Row]]:
    """The rows that went to the side which the step's file is, by choosing all sides again."""
    from datakit.split import plan_again
    from datakit.split.choose import NAMES

    sides = step.details.get("sides") or {}
    own = next((name for name, side in sides.items() if Path(side["file"]).name == Path(step.file).name), None)
    if own is None:
        raise RoadEnds(f"{step.manifest} does not tell which side {step.file} is")
    names = {step.find(told): told.file for told in step.inputs}
    try:
        notes, plan = plan_again(list(names), step.options)
    except (TunekitError, LookupError) as error:
        raise RoadEnds(f"its rows cannot be told apart once more: {error}") from None
    if plan.counts[NAMES.index(own)] != sides[own]["rows"]:
        raise RoadEnds("choosing the sides again gives other sides, as files it depends on are not what they were")
    place, wanted = 0, NAMES.index(own)
    for path, told in names.items():
        for row in read_file(path):
            if place == len(notes) or notes.number[place] != row.number or not isinstance(row, Row):
                continue  # it was rejected
            if plan.sides[place] == wanted:
                yield told, row
            place += 1
