"""The key of a request: the same for the same question however it is put together, another for any other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from datakit.augment.request import Request

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
objects = st.dictionaries(st.text(max_size=4), json_values, max_size=4)
texts = st.text(max_size=6)
requests = st.builds(
    Request,
    family=texts,
    model=texts,
    messages=st.lists(st.tuples(texts, texts), max_size=3).map(tuple),
    sampling=objects,
    schema=st.none() | objects,
    recipe=texts,
    sample=st.integers(0, 9),
)


def turned(value: Any) -> Any:
    """The same value with the keys of every object in the opposite order."""
    if isinstance(value, dict):
        return {name: turned(value[name]) for name in reversed(value)}
    return [turned(one) for one in value] if isinstance(value, list) else value


@given(requests)
def test_equal_requests_have_one_key_whatever_the_order_of_their_parts(request: Request):
    other = replace(request, sampling=turned(request.sampling), schema=turned(request.schema))
    assert other.key == request.key
    assert len(request.key) == 32


@given(requests, requests)
def test_different_requests_have_different_keys(one: Request, other: Request):
    assert (one.key == other.key) == (one.spelled == other.spelled)


@given(requests)
def test_changing_any_one_part_changes_the_key(request: Request):
    changed = [
        replace(request, family=request.family + "x"),
        replace(request, model=request.model + "x"),
        replace(request, messages=(*request.messages, ("user", ""))),
        replace(request, sampling={**request.sampling, "temperature!": 0.1}),
        replace(request, schema={**(request.schema or {}), "type!": "object"}),
        replace(request, recipe=request.recipe + "x"),
        replace(request, sample=request.sample + 1),
    ]
    assert len({request.key, *(one.key for one in changed)}) == 8


def test_the_order_of_messages_and_who_says_them_is_part_of_the_question():
    keys = {
        Request("f", "m", messages).key
        for messages in (
            (("user", "a"), ("user", "b")),
            (("user", "b"), ("user", "a")),
            (("system", "a"), ("user", "b")),
            (("user", "ab"),),
        )
    }
    assert len(keys) == 4


def test_the_key_is_the_same_in_every_version_so_that_stores_live_on():
    """Computed once with this code; a change of it loses every answer that was ever paid for."""
    request = Request("https://api.example.com/v1", "m1", (("user", "Hi?"),), {"temperature": 0.5}, None, "cafe", 1)
    assert request.spelled == (
        b'{"family":"https://api.example.com/v1","messages":[["user","Hi?"]],"model":"m1","recipe":"cafe",'
        b'"sample":1,"sampling":{"temperature":0.5},"schema":null,"version":1}'
    )
    assert request.key == "d899fdb9e4c0ca374acd1f00309a55f4"
