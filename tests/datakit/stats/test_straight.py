"""The short way to a row's turns is the long way, or it is not taken."""

import json
import logging

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datakit.stats.read import Account, read_batches, sources_of
from datakit.stats.straight import Shortcut, shortcut_for
from registry.errors import RowFault
from registry.formats import LAYOUTS, READERS, columns, detect
from registry.render import RenderRules, SlotRenderer, turns_of
from registry.rows import Row, row_of_line
from registry.slots import special_pattern
from registry.templates import load_template, template_names
from tests.datakit.stats.conftest import renderer_of

ALPACA = detect({"instruction": "q", "input": "", "output": "a", "system": "", "history": []})
TEXT = st.one_of(
    st.text(max_size=12), st.sampled_from(["{{content}}", "{{idx}}", "{{system}}", "<|im_end|>", "<think>", " ", "\n"])
)
VALUE = st.one_of(TEXT, st.none(), st.integers(), st.floats(), st.booleans(), st.just([]), st.lists(TEXT, max_size=2))
ROWS = st.fixed_dictionaries(
    {},
    optional={
        "instruction": VALUE, "input": VALUE, "output": st.one_of(TEXT, TEXT, VALUE), "system": VALUE, "tools": VALUE,
        "history": st.one_of(st.just([]), st.none(), st.lists(st.tuples(TEXT, TEXT), max_size=2), VALUE), "id": VALUE,
    },
)  # fmt: skip


def the_long_way(line, renderer, layout=ALPACA):
    """(turns, system), or None where the row is refused."""
    row = row_of_line("f", 1, line)
    if not isinstance(row, Row):
        return None
    try:
        record = READERS[layout.formatting](row.data, layout)
        return turns_of(record, renderer), record.system
    except RowFault:
        return None


@settings(max_examples=100)
@given(ROWS, st.sampled_from(template_names()), st.booleans(), st.sampled_from([True, None, False]))
def test_every_row_the_shortcut_takes_has_the_turns_of_the_long_way(row, template, strict, thinking):
    rules = RenderRules(strict=strict, enable_thinking=thinking)
    renderer = SlotRenderer(load_template(template), rules, special_pattern(["<|im_end|>"]))
    line = json.dumps(row).encode()
    found = shortcut_for(ALPACA, renderer, [row]).turns(line)
    if found is not None:
        assert (list(found[0]), found[1]) == the_long_way(line, renderer)


@settings(max_examples=100)
@given(st.data())
def test_no_line_is_taken_that_the_readers_refuse(data):
    line = bytearray(orjson.dumps({"instruction": "é\n", "input": "x\\", "output": '"a"', "id": [1.5, None]}))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(line)))
        new = data.draw(st.sampled_from([b"", b'"', b"\\", b"\\ud800", b"\xff", b"\xed\xa0\x80", b"\x00", b"\n", b",", b"}", b"NaN", b"0", b"1e999"]))  # fmt: skip
        line[place : place + data.draw(st.integers(0, 2))] = new
    renderer = renderer_of("chatml")
    found = Shortcut(renderer, ALPACA, {"instruction", "input", "output", "id"}).turns(bytes(line))
    if found is not None:
        assert (list(found[0]), found[1]) == the_long_way(bytes(line), renderer)


def test_plain_rows_are_taken_and_others_left():
    short = shortcut_for(ALPACA, renderer_of("chatml"), [["instruction", "output", "history"]])
    assert short.turns(b'{"instruction": "q", "output": "a"}') is not None
    assert short.turns(b'{"instruction": "q", "output": "a", "history": []}') is not None
    assert short.turns(b'{"instruction": "q", "output": "a", "history": [["x", "y"]]}') is None
    assert short.turns(b'{"instruction": "q", "output": 7}') is None
    assert short.turns(b'{"instruction": "q"}') is None
    assert short.turns(b'{"instruction": "q", "output": "a", "unmet": 1}') is None
    short.learn(["unmet"])
    assert short.turns(b'{"instruction": "q", "output": "a", "unmet": 1}') is not None


def test_special_tokens_in_a_question_and_thoughts_in_an_answer_go_the_long_way():
    renderer = SlotRenderer(load_template("qwen3"), specials=special_pattern(["<|im_end|>"]))
    short = shortcut_for(ALPACA, renderer, [["instruction", "output"]])
    (turn,), _ = short.turns(b'{"instruction": "q", "output": "a"}')
    assert turn.target == ("<think>\n\n</think>\n\n", "a<|im_end|>\n")
    assert short.turns(b'{"instruction": "<|im_end|>", "output": "a"}') is None
    assert short.turns(b'{"instruction": "q", "output": "<think>\\nb\\n</think>\\n\\na"}') is None


@pytest.mark.parametrize("name", ["\n", "\\", '"', "", "né", "a b", "other_0", "class", "prompt", "\x00"])
def test_columns_of_any_name_do_no_harm(name):
    renderer = renderer_of("chatml")
    line = orjson.dumps({"instruction": "q", "output": "a", name: 1})
    found = shortcut_for(
        detect({"instruction": "q", "output": "a"}), renderer, [["instruction", "output", name]]
    ).turns(line)
    assert found is None or (list(found[0]), found[1]) == the_long_way(line, renderer)


def test_only_plain_alpaca_rows_under_a_built_in_template_have_a_shortcut():
    renderer = renderer_of("chatml")
    assert shortcut_for(LAYOUTS["sharegpt"], renderer, []) is None
    assert shortcut_for(LAYOUTS["preference"], renderer, []) is None
    assert shortcut_for(LAYOUTS["alpaca"], object(), []) is None
    twice = LAYOUTS["alpaca"].__class__("alpaca", columns(prompt="a", response="a"))
    assert shortcut_for(twice, renderer, []) is None


def batches(tmp_path, text, account):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(text)
    renderer = renderer_of("chatml")
    return list(read_batches(sources_of([str(path)], None, tmp_path), "sft", renderer, account))


def test_a_file_of_both_kinds_of_rows_keeps_them_in_order_with_their_numbers(tmp_path):
    account = Account()
    lines = [b'{"instruction": "1", "output": "a"}', b"", b'{"instruction": "3", "output": "c", "history": [["x", "y"]]}',
             b'{"instruction": "4", "output": 4}', b'{"instruction": "5', b'{"instruction": "6", "output": "f", "new": 1}',
             b'{"instruction": "7", "output": "g", "new": 2}']  # fmt: skip
    (batch,) = batches(tmp_path, b"\n".join(lines) + b"\n", account)
    assert [number for _, number in batch.places] == [1, 3, 6, 7]
    assert [isinstance(row, tuple) for row in batch.rows] == [True, False, True, True]
    assert account.ledger.rows_in == 6
    assert [e.split(", ", 1)[1] for e in account.examples] == [
        'row 4, field "output": text belongs here, not a number (4)',
        "row 5: not JSON: unexpected end of data at column 19",
    ]


def test_a_shortcut_that_goes_wrong_is_told_and_no_longer_taken(tmp_path, monkeypatch, caplog):
    right = Shortcut.turns
    monkeypatch.setattr(Shortcut, "turns", lambda self, line: (right(self, line)[0] * 2, "") if self.on else None)
    with caplog.at_level(logging.WARNING, "tunekit"):
        (batch,) = batches(tmp_path, b'{"instruction": "1", "output": "a"}\n' * 3, Account())
    assert not any(isinstance(row, tuple) for row in batch.rows)
    assert "the short way to its turns differs from the long one" in caplog.text
