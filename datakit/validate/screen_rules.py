"""What the fast look asks of rows that decoded: the rules of each kind, over whole columns."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from datakit.validate.faults import is_blank, pointer
from datakit.validate.tools import tools_given, written_calls
from datakit.validate.turns import faults_of_turns
from datakit.validate.typed_columns import TypedColumns
from registry.datasets import Layout

MOST_ORDERS = 50_000  # of roles, that are remembered

Rules = Callable[[TypedColumns], Iterable[int]]


def rules_of(layout: Layout) -> Rules:
    """What finds the rows that need the thorough look among decoded ones of ``layout``, as their indexes."""
    return _side_by_side(layout) if layout.formatting == "alpaca" else _turns(layout)


def _side_by_side(layout: Layout) -> Rules:
    def suspects(columns: TypedColumns) -> Iterable[int]:
        found: list[int] = []
        for part in ("response", "chosen", "rejected"):
            if part in columns:
                found += _blank(columns[part])
        found += _unasked(columns)
        if "history" in columns:
            found += [i for i, pairs in enumerate(columns["history"]) if pairs and any(map(is_blank, chain(*pairs)))]
        found += _odd_tools(columns)
        if "chosen" in columns:
            pairs = zip(columns["chosen"], columns["rejected"], strict=True)
            found += [i for i, (one, other) in enumerate(pairs) if one.strip() == other.strip()]
        return found

    return suspects


def _blank(texts: Sequence[Any]) -> list[int]:
    """The indexes of texts with nothing to read; what is null or unset is no text either."""
    if all(texts) and not any(map(str.isspace, texts)):
        return []
    return [index for index, text in enumerate(texts) if not text or text.isspace()]


def _unasked(columns: TypedColumns) -> Iterable[int]:
    """The rows whose question is blank: all of what makes it up."""
    if "prompt" not in columns and "query" not in columns:
        return range(len(columns))
    blank = _blank(columns["prompt"]) if "prompt" in columns else range(len(columns))
    if not blank or "query" not in columns:
        return blank
    queries = columns["query"]
    return [index for index in blank if is_blank(queries[index] or "")]


def _odd_tools(columns: TypedColumns) -> Iterable[int]:
    if "tools" not in columns:
        return ()
    return [index for index, tools in enumerate(columns["tools"]) if tools and not _tools_hold(tools)]


@lru_cache(maxsize=256)
def _tools_hold(tools: str) -> bool:
    return not tools_given(tools, "tools")


def _turns(layout: Layout) -> Rules:
    orders: dict[tuple[str, ...], bool] = {}
    function = layout.tags.function_tag

    def suspects(columns: TypedColumns) -> Iterable[int]:
        if len(orders) > MOST_ORDERS:
            orders.clear()
        firsts, roles = columns.firsts, columns.roles
        found: list[int] = []
        for index in range(len(columns)):
            order = roles[firsts[index] : firsts[index + 1]]
            holds = orders.get(order)
            if holds is None:
                holds = orders[order] = _order_holds(order, layout)
            if not holds or (function in order and not _calls_hold(columns, index, function)):
                found.append(index)
        found += [bisect_right(firsts, place) - 1 for place in _blank(columns.contents)]
        found += _odd_tools(columns)
        if "chosen" in columns:
            pairs = zip(columns["chosen"], columns["rejected"], strict=True)
            found += [i for i, pair in enumerate(pairs) if not _pair_holds(*pair, str(layout.tags.assistant_tag))]
        return found

    return suspects


def _order_holds(roles: Sequence[str], layout: Layout) -> bool:
    """Whether such roles can stand in such an order, by the thorough look at turns with nothing else to find."""
    tags, name = layout.tags, str(layout.columns.messages)
    call = '{"name":"","arguments":{}}'
    turns = [{str(tags.role_tag): role, str(tags.content_tag): call} for role in roles]
    faults = faults_of_turns({name: turns}, layout)
    return not any(fault.pointer.startswith(pointer(name)) and fault.code != "TL007" for fault in faults)


def _calls_hold(columns: TypedColumns, index: int, function: str | None) -> bool:
    tools = columns["tools"][index] if "tools" in columns else None
    turns = columns["messages"][index]
    return not any(written_calls(turn.content, "", tools) for turn in turns if turn.role == function)


def _pair_holds(chosen: Any, rejected: Any, assistant: str) -> bool:
    if chosen.role != assistant or rejected.role != assistant:
        return False
    if is_blank(chosen.content) or is_blank(rejected.content):
        return False
    return bool(chosen.content.strip() != rejected.content.strip())
