"""The short way of plain alpaca rows gives what the long way gives, whatever the row and the template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.datasets import Columns, Layout
from registry.encoded.plain import Plain, frame_of, merged, plain_way
from registry.encoded.work import Encoding
from registry.errors import RowFault
from registry.formats import READERS, STRICT_READERS
from registry.render import RenderRules, SlotRenderer, Turn, turns_of
from registry.rows import BadRow, Row
from registry.slots import special_pattern
from registry.templates import load_template, template_names
from registry.uncut import Uncut, encode_rows
from tests.conftest import BYTES
from tests.registry.encoded.conftest import MakeSpec

LAYOUT = Layout("alpaca", Columns(system="system", history="history", tools="tools"))
SPECIALS = special_pattern(BYTES.specials)
TOOL = '[{"name": "f", "description": "", "parameters": {"type": "object", "properties": {}}}]'
TEXT = st.one_of(
    st.text(max_size=5),
    st.sampled_from(
        [
            "",
            "\n",
            "\nA",
            "<|im_end|>",
            "<think>",
            "<think>\nhm\n</think>\n\nA",
            "</think>",
            "{{idx}}",
            "{{content}}",
            "a\ud800",
            "ſ",
        ]
    ),
)
ODD = st.sampled_from([None, 0, 7, False, True, 0.0, [], {}, "", ["a"], {"a": "b"}])
ROWS = st.one_of(
    st.fixed_dictionaries(
        {"instruction": st.one_of(TEXT, TEXT, ODD), "output": st.one_of(TEXT, TEXT, TEXT, ODD)},
        optional={
            "input": st.one_of(TEXT, ODD),
            "system": st.one_of(st.sampled_from(["", "Be kind."]), TEXT, ODD),
            "history": st.one_of(st.just([]), st.lists(st.tuples(TEXT, TEXT).map(list), max_size=2), ODD),
            "tools": st.one_of(st.just(""), st.just(TOOL), TEXT, ODD),
        },
    ),
    st.dictionaries(TEXT, TEXT, max_size=2),
    st.lists(st.none(), max_size=2),
    ODD,
)


def long_way(rows: list[Any], renderer: SlotRenderer) -> Uncut:
    """Every row read as a record and walked through."""
    read = (STRICT_READERS if renderer.rules.strict else READERS)["alpaca"]
    walked: list[list[Turn] | RowFault] = []
    for row in rows:
        try:
            walked.append(turns_of(read(row, LAYOUT), renderer))  # type: ignore[arg-type]
        except RowFault as fault:
            walked.append(fault)
    return encode_rows(walked, "turns", BYTES)


def by_row(uncut: Uncut) -> list[Any]:
    return [(uncut.row(number)[0].tolist(), uncut.row(number)[1]) for number in range(len(uncut.row_ends) - 1)]


@pytest.mark.parametrize("strict", [False, True], ids=["right", "strict"])
@settings(max_examples=150)
@given(
    name=st.sampled_from(template_names()),
    rows=st.lists(ROWS.filter(lambda row: isinstance(row, dict)), min_size=1, max_size=6),
    thinking=st.sampled_from([True, False, None]),
    history=st.booleans(),
)
def test_a_plain_row_has_the_ids_of_the_long_way(
    strict: bool, name: str, rows: list[Any], thinking: bool | None, history: bool
) -> None:
    rules = RenderRules(strict=strict, enable_thinking=thinking, discard_thoughts=history)
    renderer = SlotRenderer(load_template(name, strict=strict), rules, SPECIALS)
    plain = plain_way(LAYOUT, renderer)
    assert plain is not None
    made = plain.encode(rows, BYTES)
    if made is None:
        return
    numbers, short, _ = made
    long = long_way(rows, renderer)
    assert by_row(short) == [by_row(long)[number] for number in numbers]
    assert short.faults == {at: long.faults[number] for at, number in enumerate(numbers) if number in long.faults}


@pytest.mark.parametrize("name", template_names())
def test_every_template_has_a_frame_for_a_question_and_its_answer(name: str) -> None:
    renderer = SlotRenderer(load_template(name), RenderRules(), SPECIALS)
    for system in ("", "Be kind."):
        frame = frame_of(renderer, system)
        assert frame is not None
        row = {"instruction": "Why?", "input": "Tell me.", "output": "Because.", "system": system}
        assert [frame.turn("Why?\nTell me.", "Because.")] == turns_of(READERS["alpaca"](row, LAYOUT), renderer)  # type: ignore[arg-type]


def test_rows_that_ask_for_more_are_left_to_the_long_way() -> None:
    plain = Plain(SlotRenderer(load_template("chatml"), RenderRules(), SPECIALS), LAYOUT)
    rows = [
        {"instruction": "a", "output": "b"},
        {"instruction": "a", "output": "b", "history": [["c", "d"]]},
        {"instruction": "a", "output": "b", "history": ""},
        {"instruction": "a", "output": "b", "tools": "[]"},
        {"instruction": "a", "output": "b", "tools": 0},
        {"instruction": "a <|im_end|>", "output": "b"},
        {"instruction": 1, "output": "b"},
        {"instruction": "a"},
        ["a", "b"],
        {"instruction": "a", "input": None, "output": "b", "history": [], "tools": "", "system": None},
    ]
    assert plain.texts(rows) == ([0, 9], ["", ""], ["a", "a"], ["b", "b"])


@pytest.mark.parametrize(
    "layout",
    [
        Layout("sharegpt"),
        Layout("alpaca", Columns(response=None)),
        Layout("alpaca", Columns(query="instruction")),
        Layout("alpaca", Columns(chosen="chosen", rejected="rejected"), ranking=True),
    ],
)
def test_there_is_no_short_way_for_other_layouts(layout: Layout) -> None:
    assert plain_way(layout, SlotRenderer(load_template("chatml"))) is None


def test_a_short_way_that_differs_is_left_for_good(
    spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    encoding = Encoding(spec(), tmp_path)
    rows: list[Row | BadRow] = [Row("f", n, {"instruction": f"a{n}", "output": "b"}) for n in range(1, 9)]
    wanted = by_row(encoding.encode(rows).uncut)
    assert encoding._plain is not None
    assert encoding._plain.on
    frame = frame_of(encoding._plain.renderer, "")
    assert frame is not None
    monkeypatch.setattr(
        encoding._plain, "frame", lambda system: type(frame)(frame.answered, frame.asked, frame.thought)
    )
    assert by_row(encoding.encode(rows).uncut) == wanted
    assert "differs from the long one" in caplog.text
    assert not encoding._plain.on


_ENCODINGS: dict[str, Encoding] = {}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.lists(ROWS, max_size=8), template=st.sampled_from(["chatml", "qwen3", "llama2"]))
def test_a_chunk_encoded_both_ways_is_the_same(spec: MakeSpec, tmp_path: Path, data: list[Any], template: str) -> None:
    """Also the other things known of rows: numbers, leads, weights, roles, and what is said of those that are none."""
    if template not in _ENCODINGS:
        _ENCODINGS[template] = Encoding(spec(template=template, layout=LAYOUT), tmp_path)
    encoding = _ENCODINGS[template]
    rows: list[Row | BadRow] = [
        Row("f", n, row) if isinstance(row, dict) else BadRow("f", n, "no object", repr(row))
        for n, row in enumerate(data, start=1)
    ]
    both = encoding.encode(rows)
    plain, encoding._plain = encoding._plain, None
    long = encoding.encode(rows)
    encoding._plain = plain
    assert plain is not None
    assert plain.on
    assert by_row(both.uncut) == by_row(long.uncut)
    assert both.uncut.faults.keys() == long.uncut.faults.keys()
    assert (both.rejects, both.extras, both.specials) == (long.rejects, long.extras, long.specials)


@given(st.lists(st.lists(st.text("ab", max_size=3), min_size=2, max_size=2), max_size=8), st.data())
def test_merged_rows_are_in_the_order_of_their_numbers(texts: list[list[str]], data: Any) -> None:
    turns: list[list[Turn] | RowFault] = [[Turn((first,), (second,))] for first, second in texts]
    turns = [RowFault("row", str(n)) if data.draw(st.booleans()) else one for n, one in enumerate(turns)]
    mine = [n for n in range(len(turns)) if data.draw(st.booleans())]
    others = [n for n in range(len(turns)) if n not in mine]
    halves = [(numbers, encode_rows([turns[n] for n in numbers], "turns", BYTES)) for numbers in (mine, others)]
    found, wanted = merged(*halves), encode_rows(turns, "turns", BYTES)
    assert by_row(found) == by_row(wanted)
    assert found.faults == wanted.faults
