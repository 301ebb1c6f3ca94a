"""A few rows from all over a source, so that its first rows do not have to speak for all, without reading it whole."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from registry.arrow_rows import rows_of
from registry.remote import is_remote
from registry.rows import BadRow, Row, read_rows, row_of_line
from registry.sources import COMPRESSIONS, container_of

READ_WHOLE_BYTES = 64 << 20  # text up to this size is read to its end
MOST_READ = 200_000  # rows of larger files that cannot be read in places
LONGEST_LINE = 8 << 20  # bytes
BOM = b"\xef\xbb\xbf"


def spread_rows(files: Sequence[str], *, skip: int, count: int) -> list[tuple[str, Row | BadRow]]:
    """About ``count`` rows from behind the first ``skip`` rows of all files together, each with where it stands.

    JSON lines are read at even distances, Parquet from its row groups, and smaller files of other kinds to their end.
    Of larger ones the rows come from the first ``MOST_READ``. Raises ``UsageError``, and ``OSError`` as the system gives it.
    """
    if all(map(_in_places, files)):
        found: list[tuple[str, Row | BadRow]] = []
        for file in files:
            probe = _probe_parquet if container_of(file) == "parquet" else _probe_lines
            rows, skip = probe(file, -(-count // len(files)), skip)
            found += rows
        return found[:count]
    size = sum(Path(file).stat().st_size for file in files if not is_remote(file))
    last = None if size <= READ_WHOLE_BYTES else MOST_READ
    later = itertools.islice(read_rows(files), skip, last)
    return [(row.where, row) for row in _sample(later, count)]


def _in_places(file: str) -> bool:
    """Whether single rows of a file can be read without those before them."""
    if is_remote(file) or Path(file).suffix.lower() in COMPRESSIONS:
        return False
    if container_of(file) != "jsonl":
        return container_of(file) == "parquet"
    with Path(file).open("rb") as handle:  # JSON arrays, and objects over several lines, may go by the same name
        return isinstance(row_of_line(file, 1, handle.readline(LONGEST_LINE).removeprefix(BOM)), Row)


def _probe_lines(file: str, count: int, skip: int) -> tuple[list[tuple[str, Row | BadRow]], int]:
    """The lines behind ``count`` places at even distances, a long one for several places; and how many are left to skip."""
    found: list[tuple[str, Row | BadRow]] = []
    with Path(file).open("rb") as handle:
        while skip and handle.readline():
            skip -= 1
        read_to = handle.tell()
        rest = Path(file).stat().st_size - read_to
        places = [read_to + rest * (2 * number + 1) // (2 * count) for number in range(count)]
        for place in places:
            if place < read_to:
                continue
            handle.seek(place)
            handle.readline(LONGEST_LINE)  # the rest of a line that began before
            start = handle.tell()
            line = handle.readline(LONGEST_LINE)
            read_to = handle.tell()
            if line.strip() and len(line) < LONGEST_LINE:
                found.append((f"{file}, byte {start:,}", row_of_line(file, 0, line)))
    return found, skip


def _probe_parquet(file: str, count: int, skip: int) -> tuple[list[tuple[str, Row | BadRow]], int]:
    """The first rows of row groups at even distances; and how many rows are left to skip."""
    import pyarrow.parquet as pq

    found: list[tuple[str, Row | BadRow]] = []
    with pq.ParquetFile(file, pre_buffer=False) as parquet:
        sizes = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
        starts = list(itertools.accumulate(sizes, initial=0))
        groups = [i for i, end in enumerate(starts[1:]) if end > skip]
        groups = groups[:: max(-(-len(groups) // count), 1)]
        share = -(-count // max(len(groups), 1))
        for group in groups:
            ahead = max(skip - starts[group], 0)
            batch = next(parquet.iter_batches(batch_size=ahead + share, row_groups=[group]), None)
            rows = rows_of(batch)[ahead:] if batch is not None else []
            for number, data in enumerate(rows, start=starts[group] + ahead + 1):
                row = Row(file, number, data)
                found.append((row.where, row))
    return found, max(skip - starts[-1], 0)


def _sample(rows: Iterable[Row | BadRow], count: int) -> list[Row | BadRow]:
    """``count`` of ``rows``, each as likely as any other, in order; the same ones each time (Vitter's algorithm R)."""
    rng = random.Random(0)
    kept: list[tuple[int, Row | BadRow]] = []
    for number, row in enumerate(rows):
        if number < count:
            kept.append((number, row))
        elif (place := rng.randrange(number + 1)) < count:
            kept[place] = (number, row)
    return [row for _, row in sorted(kept, key=lambda item: item[0])]
