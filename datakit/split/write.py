"""The second of the two readings: every row to its side, in order, JSON lines as they stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from datakit.split.choose import TRAIN
from datakit.split.look import Notes
from datakit.split.plan import Plan
from datakit.twice import changed
from datakit.values import encode_row
from datakit.write import Sink
from registry.blocks import Block, Item
from registry.errors import RowFault
from registry.manifest import Ledger
from registry.rows import BadRow, Row, row_of_line


def write_sides(items: Iterable[Item], notes: Notes, plan: Plan, sinks: Mapping[int, Sink], ledger: Ledger) -> None:
    """Pass all rows on; what has no place in the notes to the rejects of the first side. All sides share the ``ledger``.

    Raises ``UsageError`` where the rows are not those that were noted.
    """
    for sink in sinks.values():
        sink.ledger = ledger
    noted = Noted(notes, plan)
    for item in items:
        if isinstance(item, Block):
            _write_block(item, noted, sinks)
            continue
        ledger.read(item.file)
        side = noted.side_of(item.file, item.number) if isinstance(item, Row) else None
        if side is None:
            _reject(item, sinks[TRAIN])
        elif isinstance(item, Row):
            sinks[side].accept(item, item.data)
    noted.check_all()


class Noted:
    """The rows with a side, passed once more in the order in which they were noted."""

    def __init__(self, notes: Notes, plan: Plan) -> None:
        self._numbers, self._sides = notes.number, plan.sides.tobytes()
        self._place = 0
        self._ends = [*(segment.start for segment in notes.segments[1:]), len(notes)]
        self._files = [segment.file for segment in notes.segments]
        self._segment = 0

    def side_of(self, file: str, number: int) -> int | None:
        """The side of the next row that was noted, where that is this one; None for a row that has none."""
        place = self._place
        if place == self._ends[self._segment]:
            if place == len(self._sides):
                return None
            self._segment += 1
        if self._numbers[place] != number or self._files[self._segment] != file:
            return None
        self._place = place + 1
        return self._sides[place]

    def check_all(self) -> None:
        """Raise ``UsageError`` where a row that was noted did not come again."""
        if self._place != len(self._sides):
            raise changed(self._files[self._segment])


def _write_block(block: Block, noted: Noted, sinks: Mapping[int, Sink]) -> None:
    lines_of: dict[int, list[bytes]] = {side: [] for side in sinks}
    lines = block.data.split(b"\n")
    last = block.number + len(lines) - 1  # without a line break, where it is not empty
    count = 0
    for number, line in enumerate(lines, start=block.number):
        if not line or line.isspace():
            continue
        count += 1
        side = noted.side_of(block.file, number)
        if side is None:
            _reject(row_of_line(block.file, number, line, cut=number == last), sinks[TRAIN])
        else:
            lines_of[side].append(line.strip())
    sinks[TRAIN].ledger.read(block.file, count)
    for side, found in lines_of.items():
        if found:
            sinks[side].accept_lines(b"\n".join(found) + b"\n", len(found))


def _reject(row: Row | BadRow, sink: Sink) -> None:
    """A row that the first reading passed over, for the same reason. Raises ``UsageError`` where there is none any more."""
    if isinstance(row, BadRow):
        sink.reject(row, "", row.reason)
        return
    try:
        encode_row(row.data, Counter())
    except RowFault as fault:
        sink.reject(row, fault.field, fault.reason)
        return
    raise changed(row.file)
