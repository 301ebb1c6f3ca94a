"""Where rows stand: a place for each row that is compared, counted from 0, and back from the place to file and row."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Places:
    """Runs of rows that follow each other in one file; 24 bytes a run, whatever its length."""

    files: list[str] = field(default_factory=list)
    count: int = 0
    _starts: array[int] = field(default_factory=lambda: array("Q"))  # place of the first row of each run
    _numbers: array[int] = field(default_factory=lambda: array("Q"))  # its number in its file
    _files: array[int] = field(default_factory=lambda: array("Q"))  # index into ``files``
    _next: tuple[str, int] = ("", 0)

    def add(self, file: str, numbers: Sequence[int]) -> int:
        """Rows of one file by their numbers, which grow; the place of the first, behind which the others follow."""
        first = self.count
        if numbers and numbers[-1] - numbers[0] == len(numbers) - 1:  # none is left out: nearly always
            self._begin(file, numbers[0], first)
        else:
            for at, number in enumerate(numbers, start=first):
                self._begin(file, number, at)
        self.count += len(numbers)
        if numbers:
            self._next = (file, numbers[-1] + 1)
        return first

    def _begin(self, file: str, number: int, place: int) -> None:
        """A run begins, where this row is not the next one of the last run."""
        if self._next != (file, number):
            if not self.files or self.files[-1] != file:
                self.files.append(file)
            self._starts.append(place)
            self._numbers.append(number)
            self._files.append(len(self.files) - 1)
        self._next = (file, number + 1)

    def where(self, place: int) -> tuple[str, int]:
        """File and row number of a place."""
        run = bisect_right(self._starts, place) - 1
        return self.files[self._files[run]], self._numbers[run] + place - self._starts[run]
