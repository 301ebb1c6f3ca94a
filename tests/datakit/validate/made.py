"""Rows made at random: good ones of every format, and the same with something changed anywhere in them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

from registry.datasets import Layout
from registry.formats import LAYOUTS, columns

TOOLS = [{"name": "look", "description": "", "parameters": {}}, {"type": "function", "function": {"name": "buy"}}]
_NO_WEIGHTS = ({}, {}, {}, {"weight": 0}, {"loss": False, "train": None})
_WEIGHTS = (*_NO_WEIGHTS, {"weight": 1}, {"train": True, "weight": 0.5})
_words = st.text("ab é漢\n.", min_size=1, max_size=6).filter(str.strip)


def _turns(role: str, text: str, names: Mapping[str, str]) -> st.SearchStrategy[list[dict[str, Any]]]:
    def turn(who: str) -> st.SearchStrategy[dict[str, Any]]:
        weights = _WEIGHTS if who == "assistant" else _NO_WEIGHTS
        return st.builds(lambda said, more: {role: names[who], text: said, **more}, _words, st.sampled_from(weights))

    pairs = st.lists(st.tuples(turn("user"), turn("assistant")), min_size=1, max_size=3)
    system = st.none() | turn("system")
    return st.builds(lambda first, rest: ([first] if first else []) + [t for pair in rest for t in pair], system, pairs)


_SHAREGPT = {"user": "human", "assistant": "gpt", "system": "system"}
_OPENAI = {"user": "user", "assistant": "assistant", "system": "system"}


def _optional(row: st.SearchStrategy[dict[str, Any]], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(lambda one, more: {**one, **more}, row, st.fixed_dictionaries({}, optional=fields))


_beside = {"system": st.none() | _words, "id": st.integers(0, 3), "note": st.none() | _words}
_history = st.lists(st.tuples(_words, _words).map(list), max_size=2)
_alpaca = st.fixed_dictionaries({"instruction": _words, "output": _words})
_pair = {"instruction": _words, "chosen": st.just("a") | _words, "rejected": st.just("b")}
_call = {"name": "look", "arguments": {}}


def _with_call(row: dict[str, Any]) -> dict[str, Any]:
    more = [{"from": "human", "value": "q"}, {"from": "function_call", "value": json.dumps(_call)},
            {"from": "observation", "value": ""}, {"from": "gpt", "value": "a"}]  # fmt: skip
    return {**row, "conversations": row["conversations"] + more, "tools": json.dumps(TOOLS)}


def _with_tool_calls(row: dict[str, Any]) -> dict[str, Any]:
    call = {"id": "c1", "type": "function", "function": {"name": "buy", "arguments": '{"n": 1}'}}
    more = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": None, "tool_calls": [call, {**call, "id": "c2"}]},
        {"role": "tool", "content": "1", "tool_call_id": "c1"},
        {"role": "tool", "content": "2", "tool_call_id": "c2"},
        {"role": "assistant", "content": "a"},
    ]
    return {**row, "messages": row["messages"] + more, "tools": TOOLS}


_sharegpt = _optional(
    st.fixed_dictionaries({"conversations": _turns("from", "value", _SHAREGPT)}),
    **_beside,
    tools=st.just("") | st.none(),
)
_openai = _optional(st.fixed_dictionaries({"messages": _turns("role", "content", _OPENAI)}), id=_beside["id"])


def _ends_whole(row: dict[str, Any]) -> bool:
    last = row["conversations"][-1]
    return last.get("weight", 1) == 1 and last.get("loss") is not False


# what a test calls it -> the layout, and rows of it without a fault
GOOD: dict[str, tuple[Layout, st.SearchStrategy[dict[str, Any]]]] = {
    "alpaca": (LAYOUTS["alpaca"], _optional(_alpaca, **_beside, input=st.none() | st.just("") | _words, history=_history)),
    "text": (LAYOUTS["text"], _optional(st.fixed_dictionaries({"text": _words}), **_beside)),
    "preference": (
        LAYOUTS["preference"],
        _optional(st.fixed_dictionaries(_pair), **_beside, history=_history).filter(
            lambda row: row["chosen"].strip() != row["rejected"].strip()
        ),
    ),
    "kto": (LAYOUTS["kto"], _optional(st.builds(lambda row, good: {**row, "kto_tag": good}, _alpaca, st.booleans()), **_beside)),
    "sharegpt": (LAYOUTS["sharegpt"], _sharegpt | _sharegpt.map(_with_call)),
    "openai": (LAYOUTS["openai"], _openai | _openai.map(_with_tool_calls)),
    "sharegpt pairs": (
        Layout("sharegpt", columns(messages="conversations", system="system", chosen="chosen", rejected="rejected"), ranking=True),
        _sharegpt.map(lambda row: {
            **row, "conversations": row["conversations"][:-1],
            "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"},
        }),
    ),
    "sharegpt kto": (
        Layout("sharegpt", columns(messages="conversations", system="system", kto_tag="label")),
        st.builds(lambda row, good: {**row, "label": good}, _sharegpt.filter(_ends_whole), st.booleans()),
    ),
}  # fmt: skip

ODD_VALUES = (
    None, True, False, 0, 7, 0.5, "", " ", "\ufeffx", "x", "true", "[]", '[{"from": "human", "value": "q"}]', "{", [], {}, ["a", "b"],
    {"role": "user", "content": "q"}, {"from": "gpt", "value": "a"}, "human", "gpt", "user", "assistant", "system", "tool",
    "observation", "function_call", "asistant", '{"name": "look", "arguments": {}}', '{"name": "none", "arguments": {}}',
    [{"id": "c9", "function": {"name": "look", "arguments": "{"}}], 2**70, "\ud800",
)  # fmt: skip
KEYS = (
    "from",
    "value",
    "role",
    "content",
    "tool_calls",
    "tools",
    "system",
    "images",
    "history",
    "kto_tag",
    "odd",
    "weight",
    "loss",
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside: list[tuple[Any, ...]] = []
    if isinstance(value, dict):
        inside = [place for key in value for place in _places(value[key], (*path, key))]
    elif isinstance(value, list):
        inside = [place for number, item in enumerate(value) for place in _places(item, (*path, number))]
    return ([path] if path else []) + inside


def _parent(row: Any, place: tuple[Any, ...]) -> Any:
    for step in place[:-1]:
        row = row[step]
    return row


def _replace(row: Any, place: tuple[Any, ...], value: Any, key: str) -> None:
    _parent(row, place)[place[-1]] = value


def _delete(row: Any, place: tuple[Any, ...], value: Any, key: str) -> None:
    del _parent(row, place)[place[-1]]


def _repeat(row: Any, place: tuple[Any, ...], value: Any, key: str) -> None:
    parent = _parent(row, place)
    if isinstance(parent, list):
        parent.insert(place[-1], copy.deepcopy(parent[place[-1]]))
    else:
        parent[key] = value


def _rename(row: Any, place: tuple[Any, ...], value: Any, key: str) -> None:
    parent = _parent(row, place)
    if isinstance(parent, dict):
        parent[key] = parent.pop(place[-1])


CHANGES: tuple[Callable[[Any, tuple[Any, ...], Any, str], None], ...] = (_replace, _delete, _repeat, _rename)


@st.composite
def changed(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """A row of ``GOOD[name]`` with up to three changes anywhere in it."""
    row: dict[str, Any] = copy.deepcopy(draw(GOOD[name][1]))
    for _ in range(draw(st.integers(0, 3))):
        places = _places(row)
        if not places:
            break
        change = draw(st.sampled_from(CHANGES))
        change(
            row,
            draw(st.sampled_from(places)),
            copy.deepcopy(draw(st.sampled_from(ODD_VALUES))),
            draw(st.sampled_from(KEYS)),
        )
    return row
