"""All rows of a run, in batches, from where they are read to where they end."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace

from datakit.layout import ColumnWatch
from datakit.validate.faults import Fault
from datakit.validate.find import Finder
from datakit.validate.look import Looked, Wanted, looker
from datakit.validate.mending import Mending, mend_batch
from datakit.validate.repeats import Repeats
from datakit.validate.report import Report
from datakit.validate.settle import settle
from datakit.workers import in_order
from datakit.write import Sink
from registry.blocks import Block, Item, Piece
from registry.rows.head import BOM


@dataclass
class Run:
    """What a run needs and what it has found so far."""

    wanted: Wanted
    mending: Mending
    watch: ColumnWatch
    sink: Sink
    report: Report
    repeats: Repeats = field(default_factory=Repeats)
    _ends_told: set[str] = field(default_factory=set)  # files whose line ends were told of

    def take_all(self, items: Iterable[Item], workers: int) -> None:
        """Judge every row. Blocks of lines go to other processes where there are several workers."""
        wanted = self.wanted
        finder = Finder.of(wanted.layout, wanted.mapping, wanted.levels, text=wanted.text)  # for mended rows
        looking = in_order(items, looker, (wanted,), workers)
        with closing(looking):
            for item, looked in looking:
                self._take(item, looked, finder)

    def _take(self, item: Piece, looked: Looked, finder: Finder) -> None:
        batch = looked.batch
        if isinstance(item, Block):
            self._look_at_file(item)
            assert batch.screened is not None
            batch.screened = replace(batch.screened, block=item)
        self.sink.ledger.read(batch.file, len(batch))
        self.watch.wanted &= looked.watch.wanted
        self.watch.met.update(looked.watch.met)
        if len(looked.ids):
            for index, fault in self.repeats.faults(batch, looked.ids, looked.id_column):
                batch.faults.setdefault(index, []).append(fault)
        mended = mend_batch(batch, self.mending, finder) if batch.faults and self.mending.any else {}
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
