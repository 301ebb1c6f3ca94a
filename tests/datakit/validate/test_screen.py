"""The fast look passes nothing in which the thorough look finds a fault, and learns to pass what is good."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datakit.validate.marks import Marker
from datakit.validate.reading import read_line
from datakit.validate.screen import Screen
from datakit.validate.structure import faults_of
from registry.blocks import Block
from registry.formats import LAYOUTS
from registry.rows import Row
from tests.datakit.validate.made import GOOD, changed


def block_of(*lines: bytes, end: bytes = b"\n") -> Block:
    return Block("f", 1, 0, b"\n".join(lines) + end)


def thorough(line: bytes, layout) -> list[str]:
    """The codes of all faults of a line, by the thorough look alone."""
    row, faults = read_line("f", 1, line, cut=False)
    return [fault.code for fault in faults + (faults_of(row.data, layout) if isinstance(row, Row) else [])]


def check(block: Block, screen: Screen) -> None:
    """Whatever the screen passes has no fault, and it sees every line that is not blank."""
    screened = screen.look(block)
    expected = [line for line in block.data.split(b"\n") if line.strip()]
    assert [screened.line(index) for index in range(len(screened.numbers))] == expected
    for index, line in enumerate(expected):
        if index not in screened.suspects:
            assert thorough(line, screen.layout) == []


_spelled = st.sampled_from([json.dumps, lambda row: json.dumps(row, ensure_ascii=False, separators=(",", ":"))])


def spell(row, how) -> bytes:
    return how(row).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("name", GOOD)
@settings(max_examples=60)
@given(data=st.data())
def test_no_changed_row_passes_with_a_fault(name, data):
    layout, rows = GOOD[name]
    screen = Screen(layout)
    screen.learn(data.draw(rows))
    screen.learn(data.draw(rows))
    lines = [spell(row, data.draw(_spelled)) for row in data.draw(st.lists(changed(name), min_size=1, max_size=3))]
    check(block_of(*lines), screen)


def test_a_weight_is_looked_at_in_every_row():
    screen = Screen(LAYOUTS["sharegpt"])
    good = {"conversations": [{"from": "human", "value": "q", "weight": 0}, {"from": "gpt", "value": "a", "weight": 1}]}
    bad = {"conversations": [{"from": "human", "value": "q", "weight": 1}, {"from": "gpt", "value": "a", "weight": 1}]}
    screen.learn(good)
    check(block_of(spell(good, json.dumps), spell(bad, json.dumps)), screen)


_bytes = st.sampled_from([b"", b" ", b"\n", b"\r", b"\t", b"{", b"}", b'"', b"\\", b":", b",", b"[", b"]", b"0", b"\xff", b"\xed\xa0\x80",
                          b"\xef\xbb\xbf", b"\\ud800", b"\\u0000", b"\x00", b"e", b"null", b"\xc3\xa9", b'"output":', b"1e999"])  # fmt: skip


@pytest.mark.parametrize("name", ["alpaca", "sharegpt", "openai", "kto"])
@settings(max_examples=100)
@given(data=st.data())
def test_no_change_of_bytes_gets_a_fault_past(name, data):
    layout, rows = GOOD[name]
    screen = Screen(layout)
    first = data.draw(rows)
    screen.learn(first)
    text = block_of(*(spell(row, data.draw(_spelled)) for row in (first, data.draw(rows)))).data
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 3)))
        text = text[:start] + data.draw(_bytes) + text[end:]
    if text.strip():
        check(Block("f", 1, 0, text), screen)


ALPACA = Screen(LAYOUTS["alpaca"])
ALPACA.learn({"instruction": "q", "output": "a", "input": "", "id": 1, "meta": {"x": [{"y": 1}]}})
ALPACA.learn({"instruction": "q", "output": "a"})


@pytest.mark.parametrize(
    "line",
    [
        b'{"instruction":"q","output":"a","output":"a"}',
        b'{"instruction":"q","output":"a","outp\\u0075t":"b"}',
        b'{"instruction" : "q","instruction"\t:"q","output":"a"}',
        b'{"instruction":"q","output":"a","id":1,"id":2}',
        b'{"instruction":"q","output":"a","meta":{"x":1,"x":1}}',
        b'{"instruction":"q","output":"a","meta":{"x\\\\":1,"x\\\\":1,"y":1}}',
        b'{"instruction":"q","output":"a","meta":[{"b":{"x":1,"x":2}}]}',
        b'{"instruction":"q","output":"a"' + b" " * 99 + b',"output"' + b" " * 99 + b':"b"}',
    ],
)
def test_a_key_that_stands_twice_is_suspect_wherever_it_stands(line):
    good = b'{"instruction":"say \\"x\\": 1","output":"{\\"a\\": {\\"a\\": 1}} : \\\\","meta":{"k":{"k":1}}}'
    screened = ALPACA.look(block_of(good, line, good))
    assert screened.suspects == {1}
    assert thorough(line, LAYOUTS["alpaca"]) == ["RD006"]


def test_rows_that_share_a_line_or_span_lines_are_suspect_even_where_the_counts_agree():
    row = b'{"instruction":"q","output":"a"}'
    screened = ALPACA.look(block_of(row + b" " + row, b'{"instruction":', b'"q","output":"a"}', row))
    assert screened.suspects == {0, 1, 2}


def test_good_rows_pass_once_their_names_are_known():
    screen = Screen(LAYOUTS["sharegpt"])
    turns = [{"from": "human", "value": "q", "n": 1}, {"from": "gpt", "value": "a"}]
    rows = [
        {"conversations": turns, "id": "x"},
        {"conversations": turns[:1] + turns[1:] * 1, "id": None, "system": "s", "images": []},
        {"id": 0.5, "conversations": turns},
    ]
    block = block_of(*(spell(row, json.dumps) for row in rows))
    assert screen.look(block).suspects == {0, 1, 2}
    for row in rows:
        screen.learn(row)
    assert screen.look(block).suspects == frozenset()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", "\n  \n"])
@pytest.mark.parametrize("ended", [True, False])
def test_lines_are_numbered_and_placed_whatever_stands_between_them(end, ended):
    row = '{"instruction":"q","output":"a"}'
    text = end.join(["  " + row, row, '{"instruction":1}', row]) + end * ended
    screened = ALPACA.look(Block("f", 10, 5, text.encode()))
    lines = text.encode().split(b"\n")
    numbers = [10 + number for number, line in enumerate(lines) if line.strip()]
    assert list(screened.numbers) == numbers
    assert screened.suspects == {2}
    assert [screened.line(i) for i in range(4)] == [line for line in lines if line.strip()]


_names = st.text('ab"\\: ', max_size=3)
_values = st.recursive(
    st.none() | _names, lambda some: st.lists(some, max_size=2) | st.dictionaries(_names, some, max_size=3)
)


@given(_values, st.sampled_from([(", ", ": "), (",", ":"), (" ,", " : "), (",", "\t\r  :")]))
def test_no_key_is_missed_but_those_that_end_in_a_backslash(value, separators):
    strings: list[str] = []

    def keys(value) -> int:
        if isinstance(value, dict):
            strings.extend(value)
            return sum(not key.endswith("\\") for key in value) + sum(map(keys, value.values()))
        if isinstance(value, str):
            strings.append(value)
        return sum(map(keys, value)) if isinstance(value, list) else 0

    found = len(Marker().marks(json.dumps({"a": value}, separators=separators).encode()).colons)
    assert found >= keys({"a": value})
    if not any(text.lstrip().startswith(":") for text in strings):
        assert found == keys({"a": value})
