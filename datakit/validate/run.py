"""All rows of a run, in batches, from where they are read to where they end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from datakit.layout import ColumnWatch
from datakit.validate.batch import Batch, batch_of_block, batch_of_rows
from datakit.validate.faults import Fault
from datakit.validate.find import Finder
from datakit.validate.mending import Mending, mend_batch
from datakit.validate.report import Report
from datakit.validate.screen import Screen
from datakit.validate.settle import settle
from datakit.write import Sink
from registry.blocks import Block
from registry.rows import BadRow, Row
from registry.rows.head import BOM

BATCH_ROWS = 1000  # of files that are not JSON lines
BATCH_CHARACTERS = 1 << 24  # about as many, of texts in them


@dataclass
class Run:
    """What a run needs and what it has found so far."""

    finder: Finder
    mending: Mending
    watch: ColumnWatch
    sink: Sink
    report: Report
    _ends_told: set[str] = field(default_factory=set)  # files whose line ends were told of

    def take_all(self, items: Iterable[Block | Row | BadRow], head: Sequence[Row]) -> None:
        """Judge every row; ``head`` are the first of them that can be read."""
        judge = self.finder.judge
        screen = Screen(judge.layout, passing=bool(head) and not judge.dotted)
        for row in head:
            if not judge.faults(row.data):
                screen.learn(row.data)
        for item in _gathered(items):
            if isinstance(item, Block):
                self._look_at_file(item)
                batch = batch_of_block(item, screen, judge)
            else:
                batch = batch_of_rows(item, judge)
            self._take(batch)

    def _take(self, batch: Batch) -> None:
        self.sink.ledger.read(batch.file, len(batch))
        if self.watch.wanted:
            _watch(batch, self.watch)
        self.finder.find(batch)
        mended = mend_batch(batch, self.mending, self.finder) if batch.faults and self.mending.any else {}
        settle(batch, mended, self.sink, self.report)

    def _look_at_file(self, block: Block) -> None:
        """Tell of what is odd about a file as a whole, once."""
        if block.number == 1 and block.offset == len(BOM):
            self._note(Fault("RD009", "", "the file begins with a byte order mark"), block, 1, 0)
        if block.file in self._ends_told:
            return
        at = block.data.find(b"\r\n") if b"\r" in block.data else -1
        if at >= 0:
            self._ends_told.add(block.file)
            row = block.number + block.data.count(b"\n", 0, at)
            self._note(Fault("RD008", "", "lines end in CR LF"), block, row, block.offset + at)

    def _note(self, fault: Fault, block: Block, row: int, offset: int) -> None:
        if fault.code in self.report.levels:
            self.report.add(fault, block.file, row, offset)


def _gathered(items: Iterable[Block | Row | BadRow]) -> Iterator[Block | list[Row | BadRow]]:
    """Blocks as they are, and other rows of one file together."""
    rows: list[Row | BadRow] = []
    for item in items:
        if rows and (isinstance(item, Block) or item.file != rows[0].file or len(rows) == BATCH_ROWS):
            yield rows
            rows = []
        if isinstance(item, Block):
            yield item
        else:
            rows.append(item)
    if rows:
        yield rows


def _watch(batch: Batch, watch: ColumnWatch) -> None:
    """Take note of the columns that rows of a batch have."""
    for row in batch.read.values():
        if isinstance(row, Row):
            watch.look(row.data)
    columns = batch.screened.columns if batch.screened is not None else None
    if columns is not None:
        import msgspec

        for part, column in columns.kind.parts.items():
            if column in watch.wanted and any(value is not msgspec.UNSET for value in columns[part]):
                watch.wanted.discard(column)
