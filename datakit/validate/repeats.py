"""The faults of rows whose id an earlier row has too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from datakit.validate.batch import Batch
from datakit.validate.faults import SHOWN, Fault, pointer
from datakit.validate.ids import FIELDS, Ids
from registry.rows import BadRow, Row

_NUMBER_BITS = 40  # of the place of an id: the row's number; above them the file's


class Repeats:
    """Knows the ids of all rows so far."""

    def __init__(self) -> None:
        self._ids = Ids()
        self._files: list[str] = []

    def faults(self, batch: Batch, ids: Sequence[Any], column: str | None) -> Iterator[tuple[int, Fault]]:
        """Take in the ids of the next rows; the fault, by index, of each that is not the first with its id.

        ``column`` is where the rows that were not read out have it, as far as that is known.
        """
        if not self._files or self._files[-1] != batch.file:
            self._files.append(batch.file)
        file = (len(self._files) - 1) << _NUMBER_BITS
        numbers = batch.numbers
        counting = isinstance(numbers, range)
        places = range(file | numbers[0], (file | numbers[-1]) + 1) if counting else [file | n for n in numbers]
        for index, first in self._ids.add(ids, places).items():
            where = f"{self._files[first >> _NUMBER_BITS]}, row {first % (1 << _NUMBER_BITS)}"
            name = column if column is not None and index not in batch.read else _column_of(batch.row(index))
            yield index, Fault("RD007", pointer(name), f"{where} has the same id", str(ids[index])[:SHOWN])


def _column_of(row: Row | BadRow) -> str:
    return next((name for name in FIELDS if isinstance(row, Row) and name in row.data), FIELDS[0])
