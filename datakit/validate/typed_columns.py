"""Decoded rows column by column, as C reads them fastest, and how many keys they have."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate, chain
from operator import attrgetter
from typing import Any

from datakit.validate.marks import keys_in
from datakit.validate.typed import Typed


class TypedColumns:
    """The rows that were decoded together; a column is read out when it is first asked for, and kept."""

    def __init__(self, rows: Sequence[Any], kind: Typed) -> None:
        self.rows, self.kind = rows, kind
        self._columns: dict[str, list[Any]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, attribute: str) -> bool:
        return attribute in self.kind.parts

    def __getitem__(self, attribute: str) -> list[Any]:
        if attribute not in self._columns:
            self._columns[attribute] = list(map(attrgetter(attribute), self.rows))
        return self._columns[attribute]

    @cached_property
    def turns(self) -> list[Any]:
        """The turns of all rows in one list."""
        return list(chain.from_iterable(self["messages"]))

    @cached_property
    def firsts(self) -> list[int]:
        """Where each row's turns begin among all ``turns``; at last where those of the last row end."""
        return [0, *accumulate(map(len, self["messages"]))]

    @cached_property
    def roles(self) -> tuple[str, ...]:
        """The role of each of ``turns``."""
        return tuple([turn.role for turn in self.turns])

    @cached_property
    def contents(self) -> list[str]:
        """The text of each of ``turns``."""
        return [turn.content for turn in self.turns]

    def count_keys(self) -> int:
        """How many keys all rows have together, those of objects within them included."""
        import msgspec

        kind, unset = self.kind, msgspec.UNSET
        count = len(self) * kind.num_required
        for attribute in kind.optional:
            count += len(self) - self[attribute].count(unset)
        for attribute in kind.nested:
            count += sum(map(keys_in, self[attribute]))
        if "messages" in kind.parts:
            turns = self.turns
            if "chosen" in kind.parts:
                turns = [*turns, *self["chosen"], *self["rejected"]]
            count += 2 * len(turns)
            for attribute in kind.turn_others:
                count += len(turns) - list(map(attrgetter(attribute), turns)).count(unset)
        return count

    def keys_by_row(self) -> list[int]:
        """How many keys each row has."""
        return [TypedColumns([row], self.kind).count_keys() for row in self.rows]
