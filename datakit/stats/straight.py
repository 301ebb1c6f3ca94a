"""The short way from a line of JSON to the turns of a plain question and its answer, held against the long way as it goes."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from registry.datasets import Layout
from registry.encoded.plain import MOST_SYSTEMS, Frame, frame_of
from registry.records import ChatRecord, Record
from registry.render import Renderer, SlotRenderer, Turn, turns_of

log = logging.getLogger("tunekit")

MOST_COLUMNS = 200  # that a line is decoded with
_UNUSABLE = re.compile(r'[\\"\x00-\x1f\ud800-\udfff]')  # in a column's name, for msgspec
_PARTS = ("prompt", "query", "response", "system", "history", "tools")


@dataclass
class Shortcut:
    """Decodes lines of the alpaca shape into texts and sets these between the slots of the template.

    Only what it knows for sure is taken: question, input, answer and system as text, no history, no tools, no column
    that was not met before, no special token in the question and no thought in the answer. Whatever else a line is,
    ``turns`` gives None for it, and it goes the long way. A built-in template puts other texts between its slots and
    does nothing else to them, so it needs to be spelled but once.
    """

    renderer: SlotRenderer
    layout: Layout
    columns: set[str]
    on: bool = True
    _decode: Callable[[bytes], Any] = field(init=False, repr=False)
    _frames: dict[str, Frame | None] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._build()

    def _build(self) -> None:
        import msgspec

        kinds = {
            "response": str,
            "history": Annotated[list[Any], msgspec.Meta(max_length=0)] | None,
            "tools": Annotated[str, msgspec.Meta(max_length=0)] | None,
        }
        used = {part: column for part in _PARTS if (column := getattr(self.layout.columns, part))}
        fields = [
            (part, kinds.get(part, str | None), msgspec.field(name=column, **({} if part == "response" else {"default": None})))
            for part, column in used.items()
        ]  # fmt: skip
        others = sorted(self.columns - set(used.values()))
        fields += [(f"other_{i}", Any, msgspec.field(name=name, default=None)) for i, name in enumerate(others)]
        unused = {part: None for part in _PARTS if part not in used}
        line = msgspec.defstruct("Line", fields, namespace=unused, kw_only=True, forbid_unknown_fields=True, gc=False)
        self._decode = msgspec.json.Decoder(line).decode

    def turns(self, line: bytes) -> tuple[tuple[Turn], str] | None:
        """The one turn of a line, and the row's system text; None where the long way is to say."""
        try:
            row = self._decode(line)
        except (ValueError, RecursionError):  # msgspec's own errors are values' too
            return None
        system = row.system or ""
        frame = self._frame(system)
        if frame is None:
            return None
        question, query = row.prompt, row.query
        text = f"{question}\n{query}" if question and query else question or query or ""
        if not self.renderer.spells_plainly(text, row.response):
            return None
        return (frame.turn(text, row.response),), system

    def _frame(self, system: str) -> Frame | None:
        if system not in self._frames:
            if len(self._frames) >= MOST_SYSTEMS:
                self._frames.clear()
            self._frames[system] = frame_of(self.renderer, system)
        return self._frames[system]

    def learn(self, columns: Iterable[str]) -> None:
        """Take note of a row that went the long way: perhaps it had columns that were not met before."""
        new = {name for name in columns if name not in self.columns and not _UNUSABLE.search(name)}
        if new and len(self.columns) < MOST_COLUMNS:
            self.columns |= new
            self._build()

    def confirm(self, short: tuple[Sequence[Turn], str], record: Record, where: str) -> bool:
        """Whether the long way gives the same turns and system; where not, the shortcut is off from here on."""
        if isinstance(record, ChatRecord) and (turns_of(record, self.renderer), record.system) == (
            list(short[0]),
            short[1],
        ):
            return True
        self.on = False
        log.warning("%s: the short way to its turns differs from the long one, and is no longer taken", where)
        return False


def shortcut_for(layout: Layout | None, renderer: Renderer, rows: Iterable[Iterable[str]]) -> Shortcut | None:
    """The shortcut for rows of ``layout``, of which some are given by their columns; None where there is none."""
    if layout is None or layout.formatting != "alpaca" or layout.kind != "chat" or type(renderer) is not SlotRenderer:
        return None
    named = [column for part in _PARTS if (column := getattr(layout.columns, part))]
    if len(set(named)) < len(named) or not layout.columns.prompt or any(map(_UNUSABLE.search, named)):
        return None
    return Shortcut(renderer, layout, {name for row in rows for name in row if not _UNUSABLE.search(name)})
