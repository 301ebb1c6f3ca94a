"""The rows of other files as records, for made rows to be compared with."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from datakit.layout import peek, resolve_layout
from registry.errors import RowFault
from registry.formats import READERS
from registry.records import Record
from registry.rows import Row, read_rows

log = logging.getLogger("tunekit")


def read_others(files: Sequence[str]) -> Iterator[tuple[str, int, Record]]:
    """File, number and record of each row of ``files``; how many could not be read is told at the end.

    Raises ``UsageError`` for a file that cannot be opened, and for rows of no known format.
    """
    num_bad = 0
    for file in files:
        head, rows = peek(read_rows([file]))
        layout = resolve_layout("auto", {}, head, flag="--against")
        for row in rows:
            record = None
            if isinstance(row, Row) and layout is not None:
                try:
                    record = READERS[layout.formatting](row.data, layout)
                except RowFault:
                    record = None
            if record is None:
                num_bad += 1
            else:
                yield row.file, row.number, record
    if num_bad:
        log.warning("%s rows of %s cannot be read, and nothing is compared with them", f"{num_bad:,}", ", ".join(files))
