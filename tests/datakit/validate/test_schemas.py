"""The published JSON Schemas against validate's own rules, each the other's independent witness."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datakit.validate import faults_of
from datakit.validate.codes import all_codes
from registry.datasets import Layout
from registry.formats import LAYOUTS, columns, detect
from tests.datakit.validate.made import GOOD, changed

jsonschema_rs = pytest.importorskip("jsonschema_rs")

SCHEMAS = Path(__file__).parents[3] / "docs" / "schemas"
SHARED = Path(__file__).parents[4] / "shared" / "data"

SIDE_BY_SIDE = {"AL002", "AL003", "AL005", "AL006", "AL007", "AL008"}
TURNS = {"001", "002", "003", "004", "005", "007", "012", "013"}
# schema -> the layout it is of (see made.GOOD), and the codes that a schema has words for; that roles alternate, say,
# or that two answers differ, it has none for
SAID: dict[str, tuple[str, set[str]]] = {
    "alpaca": ("alpaca", SIDE_BY_SIDE | {"AL001", "AL004"}),
    "preference": ("preference", SIDE_BY_SIDE | {"PF001", "PF002", "PF004"}),
    "kto": ("kto", SIDE_BY_SIDE | {"AL001", "KT001", "KT002", "KT003", "KT004"}),
    "text": ("text", {"TX001", "TX002", "TX003"}),
    "sharegpt": ("sharegpt", {f"SG{number}" for number in TURNS} | {"SG018"}),
    "preference-messages": ("sharegpt pairs", {f"SG{number}" for number in TURNS} | {"PF001", "PF003", "PF004"}),
    "openai": ("openai", {f"OA{number}" for number in TURNS}),
}


@cache  # building one takes longer than a thousand rows
def validator(name: str) -> Any:
    return jsonschema_rs.validator_for(json.loads((SCHEMAS / f"{name}.json").read_text("utf-8")))


def whole(layout: Layout) -> Layout:
    """``layout`` with all optional columns that its schema tells of."""
    if layout.kind == "text" or layout.formatting == "openai":
        return layout
    more = {"system": "system", "tools": "tools"} | ({"history": "history"} if layout.formatting == "alpaca" else {})
    return replace(layout, columns=replace(layout.columns, **more))


def codes_of(row: dict[str, Any], layout: Layout) -> set[str]:
    """The errors of a row."""
    return {fault.code for fault in faults_of(row, layout) if all_codes()[fault.code].level == "error"}


def test_each_format_has_a_schema_that_is_one() -> None:
    names = {path.stem for path in SCHEMAS.glob("*.json")}
    assert names == {*SAID, "kto-messages"}
    for name in names:
        schema = json.loads((SCHEMAS / f"{name}.json").read_text("utf-8"))
        jsonschema_rs.meta.validate(schema)
        assert schema["$schema"].endswith("2020-12/schema")
        assert schema["$id"] == f"{name}.json"


@pytest.mark.parametrize("name", SAID)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_good_row_is_valid(name: str, data: st.DataObject) -> None:
    row = data.draw(GOOD[SAID[name][0]][1])
    assert validator(name).is_valid(row), next(validator(name).iter_errors(row))


@pytest.mark.parametrize("name", SAID)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_changed_row_is_invalid_where_a_schema_has_words_for_its_fault(name: str, data: st.DataObject) -> None:
    layout, said = whole(GOOD[SAID[name][0]][0]), SAID[name][1]
    row = data.draw(changed(SAID[name][0]))
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return  # half a character, which no JSON text can hold
    codes = codes_of(row, layout)
    valid = validator(name).is_valid(row)
    if codes & said:
        assert not valid, codes
    if not valid:
        assert codes, next(validator(name).iter_errors(row))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the data sets of ../shared, which users do not have")
@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("alpaca_en_demo.json", "alpaca"),
        ("mt_alpaca.json", "alpaca"),
        ("mt_sharegpt.json", "sharegpt"),
        ("glaive_toolcall_en_demo.json", "sharegpt"),
        ("dpo_en_demo.json", "preference-messages"),
        ("mt_openai.json", "openai"),
    ],
)
def test_real_rows_are_valid(file: str, name: str) -> None:
    rows = json.loads((SHARED / file).read_text("utf-8"))
    assert [row for row in rows if not validator(name).is_valid(row)] == []


def test_a_judged_conversation_has_its_schema() -> None:
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    row = {"conversations": turns, "kto_tag": True}
    layout = Layout("sharegpt", columns(messages="conversations", system="system", tools="tools", kto_tag="kto_tag"))
    assert detect(row) == Layout("sharegpt", columns(messages="conversations", kto_tag="kto_tag"))
    assert (validator("kto-messages").is_valid(row), codes_of(row, layout)) == (True, set())
    for wrong in ({**row, "kto_tag": "true"}, {**row, "kto_tag": None}, {**row, "conversations": "q"}):
        assert not validator("kto-messages").is_valid(wrong)
        assert codes_of(wrong, layout)
    assert LAYOUTS["kto"].formatting == "alpaca"
