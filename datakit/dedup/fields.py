"""What of a row is compared: the value of the fields asked for, and the texts in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from datakit.layout import lookup
from registry.datasets import Columns, Layout
from registry.errors import UsageError
from registry.formats import detect, trl
from registry.rows import Row

# Words for what rows of a known format hold, where no column is called that itself.
QUESTION, ANSWER, TEXT = "question", "answer", "text"
PARTS = (QUESTION, ANSWER, TEXT)
_NO_TEXT = frozenset({"role", "from", "type"})  # of turns and their parts: the same few words in every row
_COLUMNS = {QUESTION: ("prompt", "query"), ANSWER: ("response", "chosen")}
_LABELS = {True: 1, False: 2}
_MISSING = object()
_MEDIA = ("images", "videos", "audios")  # parts of the layout


@dataclass(frozen=True, slots=True)
class Fields:
    """The columns and parts that are compared. None of either means the whole row, whose texts are its layout's."""

    names: tuple[str, ...] = ()
    parts: frozenset[str] = frozenset()  # those of ``names`` that are parts of the layout and no columns
    layout: Layout | None = None

    def value(self, data: Mapping[str, Any]) -> Any:
        """What is equal in exact duplicates; None where the row has none of the fields."""
        if not self.names:
            return data
        values = [self._value(data, name) for name in self.names]
        return None if all(value is None for value in values) else values

    def texts(self, data: Mapping[str, Any]) -> list[str]:
        """The texts in what is compared; of whole rows question and answer, not what stands beside them."""
        if not self.names:
            return self._part(data, TEXT) if self.layout is not None else [*_strings(data)]
        found: list[str] = []
        for name in self.names:
            found += self._part(data, name) if name in self.parts else _strings(lookup(data, name))
        return found

    def mark(self, data: Mapping[str, Any]) -> tuple[int, int]:
        """What the words of a whole row do not tell: its label and its pictures, films and sounds as a number, and how
        many of its last texts are rejected.

        Rows of another label or with other pictures are not near, and a rejected text is not near to a chosen one.
        """
        if self.names or self.layout is None:
            return 0, 0
        columns = self.layout.columns
        tag = lookup(data, columns.kto_tag) if columns.kto_tag else None
        label = (_LABELS[tag] if isinstance(tag, bool) else 0) + (_media_mark(data, columns) << 3)
        return label, sum(1 for _ in _strings([lookup(data, columns.rejected)])) if columns.rejected else 0

    @property
    def texts_named(self) -> str:
        """Which texts these are, for people."""
        if self.names:
            return ", ".join(self.names)
        return "question and answer" if self.layout is not None and self.layout.kind != "text" else "all text"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that some row must have."""
        return tuple(name for name in self.names if name not in self.parts)

    def _value(self, data: Mapping[str, Any], name: str) -> Any:
        if name not in self.parts:
            return lookup(data, name)
        texts = self._part(data, name)
        return "\n".join(texts) if texts else None  # as convert joins instruction and input

    def _part(self, data: Mapping[str, Any], part: str) -> list[str]:
        """The texts of the question, of the answer, or of both."""
        layout = self.layout
        assert layout is not None
        wanted = (QUESTION, ANSWER) if part == TEXT else (part,)
        found: list[str] = []
        for at, pair in enumerate((QUESTION, ANSWER)):
            if pair not in wanted:
                continue
            for column in _COLUMNS[pair]:
                name = getattr(layout.columns, column)
                found += _strings([lookup(data, name)]) if name else ()
            history = lookup(data, layout.columns.history) if layout.columns.history else None
            for turn in history if isinstance(history, list) else ():
                found += _strings(turn[at]) if isinstance(turn, list) and len(turn) == 2 else ()
        turns = lookup(data, layout.columns.messages) if layout.columns.messages else None
        for turn in turns if isinstance(turns, list) else [turns]:
            found += _turn(turn, layout, wanted)
        if ANSWER in wanted and layout.columns.rejected:
            found += _strings([lookup(data, layout.columns.rejected)])
        return found


def _turn(turn: Any, layout: Layout, wanted: Sequence[str]) -> Iterator[str]:
    """The texts of one message, where it is of the side that is wanted; system messages are of neither."""
    tags = layout.tags
    role = turn.get(tags.role_tag) if isinstance(turn, dict) else None
    if role in (tags.system_tag, "developer"):
        return
    side = ANSWER if role in (tags.assistant_tag, tags.function_tag) else QUESTION
    if side in wanted:
        yield from _strings([turn])


def _strings(value: Any) -> Iterator[str]:
    """Every text in a value that is not empty, in the order of keys; the roles of turns and the types of their parts are none."""
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from _strings(value[key])
    elif isinstance(value, list | tuple):
        for inner in value:
            if isinstance(inner, Mapping):
                inner = {key: part for key, part in inner.items() if key not in _NO_TEXT}
            yield from _strings(inner)


def parse_names(on: str | None) -> tuple[str, ...]:
    """``"instruction, output"`` → the names in it. Raises ``UsageError`` where there is none, or one twice."""
    if on is None:
        return ()
    names = tuple(name.strip() for name in on.split(","))
    if not all(names):
        raise UsageError("a field has no name", where=f"--on {on}", mend="For example --on instruction,output")
    if len(set(names)) < len(names):
        raise UsageError("a field is named twice", where=f"--on {on}")
    return names


def fields_of(names: Sequence[str], head: Sequence[Row]) -> Fields:
    """The fields called ``names`` of rows that begin like ``head``: columns where there are such, else parts."""
    layout = next((seen for row in head if (seen := layout_of(row.data)) is not None), None)
    parts = frozenset(
        name for name in names if name in PARTS and layout is not None and not any(_has(row.data, name) for row in head)
    )
    return Fields(tuple(names), parts, layout)


def fields_of_others(names: Sequence[str], head: Sequence[Row]) -> Fields:
    """As ``fields_of``; where rows of another kind have none of these fields, all their text."""
    fields = fields_of(names, head)
    if fields.parts or any(_has(row.data, name) for row in head for name in names):
        return fields
    return Fields(layout=fields.layout)


def layout_of(data: Mapping[str, Any]) -> Layout | None:
    """The layout that a row looks like, lists of messages in chosen and rejected included."""
    return trl.layout_of(data) or detect(data)


def _has(data: Mapping[str, Any], name: str) -> bool:
    return lookup(data, name, _MISSING) is not _MISSING


def _media_mark(data: Mapping[str, Any], columns: Columns) -> int:
    """A number below 2^56 that tells the pictures, films and sounds of rows apart; 0 where there are none."""
    held = [lookup(data, getattr(columns, kind) or kind) for kind in _MEDIA]
    if not any(held):
        return 0
    return int.from_bytes(blake2b(repr(held).encode("utf-8", "backslashreplace"), digest_size=7).digest(), "big")
