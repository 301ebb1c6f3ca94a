"""The types that rows of one layout decode into, with the names that only the data itself tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from datakit.validate.media import PLACEHOLDERS
from registry.datasets import Layout
from registry.formats.weights import KEYS as WEIGHT_KEYS

if TYPE_CHECKING:
    import msgspec

MOST_NAMES = 64  # that are learnt; rows with others beside them all get the thorough look
# Not learnt: of turns with a tool_call_id or a weight the rules ask more than the fast look sees.
_MESSAGE_KEYS = frozenset({"from", "value", "role", "content", "tool_calls", "tool_call_id", *WEIGHT_KEYS})
_REQUIRED = ("response", "messages", "chosen", "rejected", "kto_tag")


@dataclass(frozen=True, slots=True)
class Typed:
    """A decoder of rows. Their attributes are named by part (see ``registry.datasets.Columns``), or ``x0``, ``x1`` …

    ``parts`` and ``others`` give attribute → column, ``turn_others`` attribute → key of a turn, whose own two are
    ``role`` and ``content``. ``optional`` attributes may be unset; ``nested`` ones may hold objects.
    """

    decoder: msgspec.json.Decoder[Any]
    parts: Mapping[str, str]
    others: Mapping[str, str]
    optional: frozenset[str]
    nested: frozenset[str]
    turn_others: Mapping[str, str]

    @property
    def num_required(self) -> int:
        """How many attributes are set in each row."""
        return len(self.parts) + len(self.others) - len(self.optional)


@dataclass
class Known:
    """What rows showed of one name: whether some lack it, and whether some have a list or an object under it."""

    optional: bool
    nested: bool


@dataclass
class Names:
    """The columns of a file as its rows showed them, and the keys of turns beside role and text."""

    columns: dict[str, Known] = field(default_factory=dict)
    turns: dict[str, bool] = field(default_factory=dict)  # key -> whether lists or objects were met under it
    rows: int = 0

    def learn(self, data: Mapping[str, Any], layout: Layout) -> bool:
        """Take note of a row that has no fault; whether anything was new."""
        new = False
        for name, value in data.items():
            known = self.columns.get(name)
            nested = isinstance(value, list | dict)
            if known is None and len(self.columns) < MOST_NAMES and is_simple(name):
                self.columns[name] = Known(optional=self.rows > 0, nested=nested)
                new = True
            elif known is not None and nested and not known.nested:
                known.nested = new = True
        for name, known in self.columns.items():
            if name not in data and not known.optional:
                known.optional = new = True
        if layout.formatting != "alpaca":
            answers = [data.get(column) for column in (layout.columns.chosen, layout.columns.rejected) if column]
            for turn in (*data[str(layout.columns.messages)], *answers):
                new |= self._learn_turn(turn)
        self.rows += 1
        return new

    def _learn_turn(self, turn: Mapping[str, Any]) -> bool:
        new = False
        for name, value in turn.items():
            nested = isinstance(value, list | dict)
            known = self.turns.get(name)
            unheard = known is None and len(self.turns) < MOST_NAMES and name not in _MESSAGE_KEYS and is_simple(name)
            if unheard or (known is False and nested):
                self.turns[name] = nested
                new = True
        return new


def is_simple(name: str) -> bool:
    """Whether a name is surely spelled in JSON text as it is, so that ``datakit.validate.marks`` counts it."""
    return '"' not in name and "\\" not in name and name.isprintable()


def parts_of(layout: Layout) -> dict[str, str]:
    """The columns that matter to the structure of a row, by part."""
    columns = layout.columns
    if layout.kind == "text":
        names = ["prompt"]
    elif layout.formatting == "alpaca":
        names = ["prompt", "query", "history", "system", "tools"]
    else:
        names = ["messages", "system", "tools"]
    names += ["chosen", "rejected"] if layout.kind == "preference" else []
    names += ["response"] if layout.formatting == "alpaca" and layout.kind in ("chat", "feedback") else []
    names += ["kto_tag"] if layout.kind == "feedback" else []
    return {name: column for name in names if (column := getattr(columns, name))}


def typed(layout: Layout, names: Names) -> Typed | None:
    """The decoder for rows with these names; None where there can be none (a column that plays two parts)."""
    import msgspec

    every = parts_of(layout)
    if len(set(every.values())) < len(every) or not all(map(is_simple, every.values())):
        return None
    parts = {part: column for part, column in every.items() if part in _REQUIRED or column in names.columns}
    others = {f"x{i}": name for i, name in enumerate(n for n in names.columns if n not in every.values())}
    turn, turn_others = _turn_type(layout, names) if layout.formatting != "alpaca" else (None, {})
    kinds = {part: _kind_of_part(part, layout, turn) for part in parts}
    kinds |= {attribute: _kind_of_other(name, names.columns[name].nested) for attribute, name in others.items()}
    spelled = {**parts, **others}
    optional = frozenset(
        attribute
        for attribute, name in spelled.items()
        if attribute not in _REQUIRED and (name not in names.columns or names.columns[name].optional)
    )
    row = _struct("Row", kinds, optional, spelled)
    nested = frozenset(a for a, name in others.items() if names.columns[name].nested and name not in PLACEHOLDERS)
    return Typed(msgspec.json.Decoder(row), parts, others, optional, nested, turn_others)


def _turn_type(layout: Layout, names: Names) -> tuple[Any, dict[str, str]]:
    others = {f"y{i}": name for i, name in enumerate(name for name, nested in names.turns.items() if not nested)}
    spelled = {"role": str(layout.tags.role_tag), "content": str(layout.tags.content_tag), **others}
    kinds: dict[str, Any] = {"role": str, "content": str, **{name: _kind_of_other(name, False) for name in others}}
    if layout.formatting == "openai":
        kinds["tool_calls"] = _nothing()
        others["tool_calls"] = "tool_calls"
    return _struct("Turn", kinds, frozenset(others), spelled), others


def _kind_of_part(part: str, layout: Layout, turn: Any) -> Any:
    if part == "messages":
        return list[turn]
    if part in ("chosen", "rejected") and turn is not None:
        return turn
    if part == "history":
        return list[tuple[str, str]] | None
    if part == "kto_tag":
        return bool
    return str if part in _REQUIRED or layout.kind == "text" else str | None


def _kind_of_other(name: str, nested: bool) -> Any:
    if name in PLACEHOLDERS:
        return _nothing()
    return Any if nested else str | int | float | bool | None


def _nothing() -> Any:
    """An empty list, or null."""
    import msgspec

    return Annotated[list[Any], msgspec.Meta(max_length=0)] | None


def _struct(name: str, kinds: Mapping[str, Any], optional: frozenset[str], spelled: Mapping[str, str]) -> Any:
    import msgspec

    fields = [
        (attribute, kind | msgspec.UnsetType if kind is not Any else Any, msgspec.UNSET)
        if attribute in optional
        else (attribute, kind)
        for attribute, kind in kinds.items()
    ]
    # gc=False: rows hold no cycles, and thousands of them at once would each be looked at by the collector.
    return msgspec.defstruct(name, fields, rename=dict(spelled), forbid_unknown_fields=True, gc=False, kw_only=True)
