"""The texts of a batch are those of its rows, each with its place, whether rows were decoded together or one by one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datakit.validate.batch import Judge, batch_of_block, batch_of_rows
from datakit.validate.batch_texts import texts_of_batch
from datakit.validate.screen import Screen
from datakit.validate.texts import texts_of
from registry.blocks import Block
from registry.datasets import Layout
from registry.formats import LAYOUTS, columns
from registry.rows import Row
from tests.datakit.validate.made import GOOD, changed


def found_in(texts) -> list[tuple]:
    placed = [(*texts.place(n), text, texts.answers[n]) for n, text in enumerate(texts.texts)]
    return sorted(entry for entry in placed if entry[2])


@pytest.mark.parametrize("name", GOOD)
@settings(max_examples=30)
@given(data=st.data())
def test_each_text_leads_back_to_its_row_and_place(name, data):
    layout, rows = GOOD[name]
    several = [row for row in data.draw(st.lists(rows | changed(name), max_size=4)) if "\\ud800" not in json.dumps(row)]
    screen, judge = Screen(layout), Judge(layout)
    screen.learn(data.draw(rows))
    expected = sorted(
        (index, text.pointer, text.text, text.is_answer)
        for index, row in enumerate(several)
        for text in texts_of(row, layout)
        if text.text
    )
    if several:
        block = Block("f", 1, 0, "".join(json.dumps(row) + "\n" for row in several).encode())
        assert found_in(texts_of_batch(batch_of_block(block, screen, judge), judge)) == expected
        batch = batch_of_rows([Row("f", n, row) for n, row in enumerate(several, start=1)], judge)
        assert found_in(texts_of_batch(batch, judge)) == expected


def test_what_the_model_is_taught_to_say_is_an_answer():
    row = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "system": "s"}
    assert [(t.pointer, t.is_answer) for t in texts_of(row, LAYOUTS["sharegpt"])] == [
        ("/system", False),
        ("/conversations/0/value", False),
        ("/conversations/1/value", True),
    ]


def test_columns_reached_within_others_are_placed_there():
    judge = Judge(Layout("alpaca", columns(prompt="a.b")), ("a.b",))
    batch = batch_of_rows([Row("f", 1, {"a": {"b": "text"}}), Row("f", 2, {"a.b": "flat"})], judge)
    assert found_in(texts_of_batch(batch, judge)) == [(0, "/a/b", "text", False), (1, "/a.b", "flat", False)]
