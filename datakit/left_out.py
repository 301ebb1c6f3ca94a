"""What of the rows has no place in the format they are turned into, counted as they pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from datakit.layout import lookup, used_columns
from registry.datasets import Layout
from registry.formats.targets import ROLES
from registry.formats.weights import KEYS as WEIGHT_KEYS

_CALLING_KEYS = ("tool_calls", "tool_call_id")
_CALL_KEYS = frozenset({"function", "type", "name", "arguments"})
_NOTHING = (None, "")


class LeftOut:
    """Columns, and keys of messages, that do not come along; ``counts`` how often each held something.

    ``drops`` are the parts that the target's kind of record has no place for, by ``registry.formats.targets``.
    """

    def __init__(self, layout: Layout, mapping: Mapping[str, str], drops: Iterable[str] = ()) -> None:
        self._layout = layout
        self._drops = frozenset(drops)
        used = {part: column for part, column in used_columns(layout).items() if part not in self._drops}
        self._used = frozenset(used.values())
        self._partly = {c.split(".")[0] for c in mapping.values() if "." in c} - self._used
        self._with_turns = (
            [used[part] for part in ("messages", "response", "chosen", "rejected") if part in used]
            if layout.formatting != "alpaca"
            else []
        )
        tags = layout.tags
        self._known = {tags.role_tag, tags.content_tag}
        if layout.formatting in ("openai", "trl"):
            self._known.update(_CALLING_KEYS)
        if ROLES not in self._drops:
            self._known.update(WEIGHT_KEYS)
        self.counts: Counter[str] = Counter()

    def look(self, data: Mapping[str, Any]) -> None:
        """Take note of one row that was passed on."""
        for column in data:
            if column not in self._used and data[column] not in _NOTHING:
                self._add(column, 1)
        for column in self._with_turns:
            value = lookup(data, column)
            for turn in value if isinstance(value, list) else [value]:
                if isinstance(turn, dict):
                    self._look_at_turn(turn, column, "[]" if isinstance(value, list) else "")
        if ROLES in self._drops:
            self.counts[ROLES] += 1

    def add_column(self, column: str, count: int) -> None:
        """``count`` rows hold something in ``column``; nothing where it comes along."""
        if column not in self._used and count:
            self._add(column, count)

    def _add(self, column: str, count: int) -> None:
        self.counts[f"{column} (all but what is mapped)" if column in self._partly else column] += count

    def _look_at_turn(self, turn: Mapping[str, Any], column: str, brackets: str) -> None:
        if not turn.keys() <= self._known:
            for key in turn:
                if key not in self._known and turn[key] not in _NOTHING:
                    self.counts[f"{column}{brackets}.{key}"] += 1
        calls = turn.get("tool_calls")
        if calls and isinstance(calls, list) and "tool_calls" in self._known:
            content = str(self._layout.tags.content_tag)
            if turn.get(content):
                self.counts[f"{column}{brackets}.{content} beside tool_calls"] += 1
            for call in calls:
                for key in call if isinstance(call, dict) else ():
                    if key not in _CALL_KEYS:
                        self.counts[f"{column}{brackets}.tool_calls[].{key}"] += 1
