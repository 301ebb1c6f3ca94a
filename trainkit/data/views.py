"""Views of encoded rows: which rows a run sees, in which order, and the example that each becomes when it is asked for."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from registry.encoded.rows import EncodedRows
from registry.errors import RowFault
from registry.examples import AnyExample, sides_of

if TYPE_CHECKING:
    import numpy as np


class View(ABC):
    """The examples of a run in their order, made when they are asked for.

    ``lengths`` (tokens, of preference pairs and feedback those of the longer sequence), ``trained`` and ``cut``
    (tokens) have an entry an example, int32.
    """

    lengths: np.ndarray[Any, Any]
    trained: np.ndarray[Any, Any]
    cut: np.ndarray[Any, Any]

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[AnyExample]:
        return (self[number] for number in range(len(self)))

    @abstractmethod
    def __getitem__(self, number: int) -> AnyExample: ...

    @abstractmethod
    def digest(self) -> str:
        """A hash of what decides every id and label in order."""


@dataclass(frozen=True, slots=True)
class Order:
    """Rows of several datasets in the order in which a run sees them: which dataset (int16), and which row (int64).

    ``windows`` (``strict``) are the numbers of LLaMA-Factory's map batches, in which rows that are none count too.
    """

    datasets: np.ndarray[Any, Any]
    rows: np.ndarray[Any, Any]
    windows: np.ndarray[Any, Any] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: np.ndarray[Any, Any]) -> Order:
        """The chosen ones, by number or by mask."""
        windows = None if self.windows is None else self.windows[chosen]
        return Order(self.datasets[chosen], self.rows[chosen], windows)

    def digest(self) -> bytes:
        """A hash of all of it."""
        parts = [self.datasets, self.rows, *([] if self.windows is None else [self.windows])]
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).digest()

    def window_of(self, number: int) -> tuple[int, int]:
        """Where the window of the ``number``-th row begins and ends; all rows are one where there are none."""
        import numpy as np

        if self.windows is None:
            return 0, len(self)
        own = self.windows[number]
        return int(np.searchsorted(self.windows, own)), int(np.searchsorted(self.windows, own, side="right"))


@dataclass(frozen=True, slots=True)
class Lost:
    """A row that becomes no example, by its number in an order, and why."""

    number: int
    fault: RowFault


class RowView(View):
    """Examples of one row each: conversations, preference pairs, prompts."""

    def __init__(self, sets: Sequence[EncodedRows], order: Order, make: Make, keys: Sequence[str]) -> None:
        """``make`` gives the example of a row; all rows of ``order`` have ids."""
        import numpy as np

        self.sets, self.order, self.make = sets, order, make
        self.keys = tuple(keys)
        self.lost: list[Lost] = []
        kept = np.ones(len(order), np.bool_)
        self.lengths, self.trained, self.cut = make.measure(sets, order)
        for number in np.flatnonzero(self.lengths < 0).tolist():
            example = make.example(self, number)
            if isinstance(example, RowFault):
                kept[number] = False
                self.lost.append(Lost(number, example))
                continue
            sides = sides_of(example)
            self.lengths[number] = max(len(side.ids) for side in sides)
            self.trained[number] = sum(side.num_trained for side in sides)
            self.cut[number] = sum(side.num_cut for side in sides)
        self.kept = np.flatnonzero(kept)
        if len(self.kept) < len(kept):
            self.lengths, self.trained, self.cut = (a[self.kept] for a in (self.lengths, self.trained, self.cut))

    def __getitem__(self, number: int) -> AnyExample:
        example = self.make.example(self, int(self.kept[number]))
        assert not isinstance(example, RowFault), example
        return example

    def row(self, number: int) -> tuple[np.ndarray[Any, Any], list[int]]:
        """The uncut ids and part lengths of the ``number``-th row of the order."""
        return self.set_of(number).row(int(self.order.rows[number]))

    def places(self, number: int) -> list[tuple[str, int]]:
        """The file and the row (from 1) of the ``number``-th example; of feedback also those of the answer in its KL
        part."""
        rows = self.make.rows(self.order, int(self.kept[number]))
        return [self.set_of(one).place(int(self.order.rows[one])) for one in rows]

    def set_of(self, number: int) -> EncodedRows:
        return self.sets[int(self.order.datasets[number])]

    def digest(self) -> str:
        """A hash of everything that decides the examples: equal for two runs on equal data."""
        found = hashlib.sha256(repr((self.keys, self.make)).encode())
        found.update(self.order.digest())
        return found.hexdigest()[:16]


class Make(Protocol):
    """How a row becomes an example."""

    def measure(self, sets: Sequence[EncodedRows], order: Order) -> tuple[Any, Any, Any]:
        """Lengths, trained and cut tokens of each row (int32); a length of -1 where only the example itself can tell."""
        ...

    def example(self, view: RowView, number: int) -> AnyExample | RowFault: ...

    def rows(self, order: Order, number: int) -> tuple[int, ...]:
        """The rows of an order that the example of the ``number``-th is made of."""
        ...


class Joined(View):
    """Several views as one, their examples numbered through."""

    def __init__(self, views: Sequence[View]) -> None:
        import numpy as np

        self.views = list(views)
        self._firsts = [0]
        for view in self.views:
            self._firsts.append(self._firsts[-1] + len(view))
        empty = np.zeros(0, np.int32)
        self.lengths, self.trained, self.cut = (
            np.concatenate([getattr(view, name) for view in self.views] or [empty])
            for name in ("lengths", "trained", "cut")
        )

    def __getitem__(self, number: int) -> AnyExample:
        which = bisect_right(self._firsts, number) - 1
        return self.views[which][number - self._firsts[which]]

    def digest(self) -> str:
        """A hash of all."""
        return hashlib.sha256("".join(view.digest() for view in self.views).encode()).hexdigest()[:16]
