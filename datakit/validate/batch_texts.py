"""The texts of a whole batch in one flat list, with the row and the place that each comes from."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any

from datakit.validate.batch import Batch, Judge
from datakit.validate.faults import pointer
from datakit.validate.texts import texts_of
from datakit.validate.turns import spelling_of
from datakit.validate.typed_columns import TypedColumns
from registry.datasets import Layout
from registry.records import MODEL_SIDE
from registry.rows import Row

Place = tuple[int, str]  # index of the row in its batch, pointer within the row


class Texts:
    """Texts, whether each is one that the model is taught to say, and the way back from a text to its place."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.answers: list[bool] = []
        self._starts: list[int] = []
        self._places: list[Callable[[int], Place]] = []

    def add(self, texts: Sequence[str], answers: Iterable[bool], place: Callable[[int], Place]) -> None:
        """More texts; ``place`` tells where the n-th of them comes from."""
        self._starts.append(len(self.texts))
        self._places.append(place)
        self.texts += texts
        self.answers += answers

    def place(self, index: int) -> Place:
        """Where a text comes from."""
        part = bisect_right(self._starts, index) - 1
        return self._places[part](index - self._starts[part])


def texts_of_batch(batch: Batch, judge: Judge) -> Texts:
    """The texts of all rows that could be read."""
    found = Texts()
    screened = batch.screened
    columns = screened.columns if screened is not None else None
    if screened is not None and columns is not None:
        places = screened.places
        if batch.read:
            kept = [at for at, place in enumerate(places) if place not in batch.read]
            columns = TypedColumns([columns.rows[at] for at in kept], columns.kind)
            places = [places[at] for at in kept]
        if judge.layout.formatting == "alpaca":
            _side_by_side(found, columns, places)
        else:
            _turns(found, columns, places, judge.layout)
    texts_of_rows(found, {i: row.data for i, row in batch.read.items() if isinstance(row, Row)}, judge)
    return found


def texts_of_rows(found: Texts, rows: Mapping[int, Mapping[str, Any]], judge: Judge) -> None:
    """Add the texts of rows by their index."""
    texts: list[str] = []
    answers: list[bool] = []
    places: list[Place] = []
    for index, data in rows.items():
        for text in texts_of(judge.seen(data), judge.layout):
            texts.append(text.text)
            answers.append(text.is_answer)
            places.append((index, judge.place(text.pointer, data) if judge.dotted else text.pointer))
    found.add(texts, answers, places.__getitem__)


def _side_by_side(found: Texts, columns: TypedColumns, places: Sequence[int]) -> None:
    for part in ("system", "tools", "prompt", "query", "response", "chosen", "rejected"):
        _column(found, columns, places, part, is_answer=part in ("response", "chosen", "rejected"))
    if "history" in columns:
        told = [
            (place, number, side, text)
            for place, pairs in zip(places, columns["history"], strict=True)
            for number, pair in enumerate(pairs or ())
            for side, text in enumerate(pair)
        ]
        at = pointer(columns.kind.parts["history"])

        def place_of(n: int) -> Place:
            place, number, side, _ = told[n]
            return place, f"{at}/{number}/{side}"

        found.add([text for *_, text in told], [side == 1 for _, _, side, _ in told], place_of)


def _column(found: Texts, columns: TypedColumns, places: Sequence[int], part: str, *, is_answer: bool) -> None:
    if part in columns:
        at = pointer(columns.kind.parts[part])
        texts = [text or "" for text in columns[part]]
        found.add(texts, repeat(is_answer, len(texts)), lambda n: (places[n], at))


def _turns(found: Texts, columns: TypedColumns, places: Sequence[int], layout: Layout) -> None:
    for part in ("system", "tools"):
        _column(found, columns, places, part, is_answer=False)
    models = frozenset(name for name, role in spelling_of(layout).roles.items() if role in MODEL_SIDE)
    said = pointer(str(layout.tags.content_tag))
    at = pointer(columns.kind.parts["messages"])
    firsts = columns.firsts

    def place_of(n: int) -> Place:
        row = bisect_right(firsts, n) - 1
        return places[row], f"{at}/{n - firsts[row]}{said}"

    found.add(columns.contents, [role in models for role in columns.roles], place_of)
    for part in ("chosen", "rejected"):
        if part in columns:
            answers = [answer.content for answer in columns[part]]
            found.add(answers, repeat(True, len(answers)), _in_column(places, pointer(columns.kind.parts[part]) + said))


def _in_column(places: Sequence[int], at: str) -> Callable[[int], Place]:
    return lambda n: (places[n], at)
