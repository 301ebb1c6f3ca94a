"""The fast look at blocks of JSON lines: it finds the rows that surely have no fault in their structure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datakit.validate.marks import Marker, Marks
from datakit.validate.media import PLACEHOLDERS
from datakit.validate.screen_rules import rules_of
from datakit.validate.typed import Names, typed
from datakit.validate.typed_columns import TypedColumns
from registry.blocks import Block
from registry.datasets import Layout

# What may stand for a picture in a line; JSON may spell its first sign by number.
_MEDIA = re.compile(b"|".join([*(re.escape(sign.encode()) for sign in PLACEHOLDERS.values()), rb"\\u003[cC]"]))


@dataclass(frozen=True, slots=True)
class Screened:
    """A block's lines that are not blank: line ``numbers``, the offsets of their ``starts`` and ``ends`` in the block.

    ``columns`` hold those rows that decoded, and ``places`` their indexes among the lines; ``suspects`` are the indexes
    of all that need the thorough look. ``regular``: the block's bytes are those lines, each an object from its first
    byte to its last, and ended.
    """

    block: Block
    numbers: Sequence[int]
    starts: Sequence[int]
    ends: Sequence[int]
    columns: TypedColumns | None
    places: Sequence[int]
    suspects: frozenset[int]
    regular: bool

    def line(self, index: int) -> bytes:
        """The bytes of one line, without its line break."""
        return self.block.data[self.starts[index] : self.ends[index]]


class Screen:
    """Looks at blocks of one layout, and learns which other columns there are.

    Passed is only what the thorough look (``datakit.validate.structure``) would find without a fault. It is not
    asked: each rule here is the same or stricter, and what needs more than a glance is left to it. Without
    ``passing`` all of it is left to it.
    """

    def __init__(self, layout: Layout, *, passing: bool = True) -> None:
        self.layout = layout
        self._names = Names()
        self._typed = typed(layout, self._names) if passing else None
        self._marker = Marker()
        self._rules = rules_of(layout)

    def learn(self, data: Any) -> None:
        """Take note of the names in a row that has no fault."""
        if self._typed is not None and self._names.learn(data, self.layout):
            self._typed = typed(self.layout, self._names)

    def look(self, block: Block) -> Screened:
        """The rows of a block, and which of them are suspect."""
        marks = self._marker.marks(block.data)
        count = len(marks.ends)
        numbers: Sequence[int] = range(block.number, block.number + count)
        regular = marks.one_a_line and block.data.endswith(b"\n")
        rows = self._decoded(block.data) if marks.one_a_line else None
        if rows is not None and len(rows) == count:
            return self._screened(block, numbers, marks, rows, range(count), regular=regular)
        lines = [block.data[start:end] for start, end in zip(marks.starts.tolist(), marks.ends.tolist(), strict=True)]
        kept = [index for index, line in enumerate(lines) if line and not line.isspace()]
        if len(kept) < count:
            lines, numbers = [lines[index] for index in kept], [numbers[index] for index in kept]
            marks = Marks(marks.starts[kept], marks.ends[kept], marks.colons, one_a_line=False)
        tried = [self._decoded_line(line) for line in lines]
        places = [index for index, row in enumerate(tried) if row is not None]
        return self._screened(block, numbers, marks, [tried[index] for index in places], places, regular=regular)

    def _screened(
        self,
        block: Block,
        numbers: Sequence[int],
        marks: Marks,
        rows: list[Any],
        places: Sequence[int],
        *,
        regular: bool,
    ) -> Screened:
        starts, ends = marks.starts.tolist(), marks.ends.tolist()
        suspects = set(range(len(starts))).difference(places) if len(places) < len(starts) else set()
        columns = None
        if rows and self._typed is not None:
            columns = TypedColumns(rows, self._typed)
            suspects.update(places[at] for at in self._rules(columns))
            suspects.update(places[at] for at in _with_other_keys(columns, marks, places))
            if any(name in PLACEHOLDERS for name in columns.kind.others.values()):
                suspects.update(index for index in places if _MEDIA.search(block.data, starts[index], ends[index]))
        return Screened(block, numbers, starts, ends, columns, places, frozenset(suspects), regular)

    def _decoded(self, data: bytes) -> list[Any] | None:
        if self._typed is None:
            return None
        try:
            return self._typed.decoder.decode_lines(data)
        except (ValueError, RecursionError):  # msgspec's own errors and those of UTF-8 are ValueErrors
            return None

    def _decoded_line(self, line: bytes) -> Any:
        if self._typed is None:
            return None
        try:
            return self._typed.decoder.decode(line)
        except (ValueError, RecursionError):
            return None


def _with_other_keys(columns: TypedColumns, marks: Marks, places: Sequence[int]) -> Sequence[int]:
    """The rows with more keys in their text than were decoded: one stands twice in them."""
    if len(places) == len(marks.ends) and len(marks.colons) == columns.count_keys():
        return ()
    found = marks.keys_by_line()
    return [at for at, keys in enumerate(columns.keys_by_row()) if found[places[at]] != keys]
