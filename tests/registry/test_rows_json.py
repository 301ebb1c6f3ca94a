"""JSON in all its shapes: which one a file has, and values that cost a row and no more."""

import json
import logging

import pytest

import registry.rows.json_values
import registry.rows.row
from registry.errors import UsageError
from registry.rows import BadRow, Row, decode_json, read_rows
from registry.rows.json_shape import Shape, shape_of

A, B = '{"a": 1}', '{"a": 2}'
LONG = json.dumps({"a": 'x"}]' * 50})


@pytest.mark.parametrize(
    ("text", "of_jsonl", "of_json"),
    [
        (f"{A}\n{B}\n", Shape.LINES, Shape.LINES),
        (A, Shape.LINES, Shape.LINES),
        (f"\n\n{A}\n{B}\n", Shape.LINES, Shape.LINES),
        (f"[{A},\n{B}]", Shape.ARRAY, Shape.ARRAY),
        (f" \n [{A}]", Shape.ARRAY, Shape.ARRAY),
        (f"[{A}]\n[{B}]\n", Shape.LINES, Shape.ARRAY),
        (f"[1, 2]\n{A}\n", Shape.LINES, Shape.ARRAY),
        ('{\n"a": 1\n}\n{\n"a": 2\n}', Shape.OBJECTS, Shape.OBJECTS),
        (f"{A}{B}", Shape.OBJECTS, Shape.OBJECTS),
        (f"{A}\r{B}\r", Shape.OBJECTS, Shape.OBJECTS),
        ('{"a": {\n"b": 1}}', Shape.LINES, Shape.OBJECTS),
        (f'{{"a": \n{A}\n', Shape.LINES, Shape.LINES),
        (f"{{'a': 1}}\n{A}\n", Shape.LINES, Shape.LINES),
        ("prose", Shape.LINES, Shape.LINES),
        ("", Shape.LINES, Shape.LINES),
    ],
)
def test_the_content_tells_the_shape_and_the_name_only_what_is_open(text, of_jsonl, of_json):
    assert shape_of("a", text.encode(), "jsonl") is of_jsonl
    assert shape_of("a", text.encode(), "json") is of_json


def test_objects_over_several_lines_named_jsonl_are_read_and_said(tmp_path, caplog):
    (tmp_path / "a.jsonl").write_text(json.dumps({"a": 1}, indent=2) + "\n" + json.dumps({"a": 2}, indent=2))
    with caplog.at_level(logging.WARNING, "tunekit"):
        assert [row.data for row in read_rows([tmp_path / "a.jsonl"])] == [{"a": 1}, {"a": 2}]  # type: ignore[union-attr]
    assert "its objects span lines" in caplog.text


@pytest.mark.parametrize("chunk", [1, 5, 1 << 20])
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('{"a": 1e999, "b": "}]\\"{"}', "not JSON: the number 1e999 is too large"),
        ('{"a": -1e999}', "not JSON: the number -1e999 is too large"),
        ("1e999", "not JSON: the number 1e999 is too large"),
        ('{"a": ' + "7" * 5000 + "}", "not JSON: the number 77777777777777777777… of 5,000 digits is too large"),
        (LONG, "the row is too long (more than 100 characters; only its beginning is kept)"),
        ('"' + "x" * 200 + '"', "the row is too long (more than 100 characters; only its beginning is kept)"),
    ],
)
@pytest.mark.parametrize("behind", [f",\n{B}]", "]", " \n]"])
def test_a_row_of_an_array_that_cannot_be_held_costs_only_itself(tmp_path, monkeypatch, chunk, bad, reason, behind):
    monkeypatch.setattr(registry.rows.json_values, "CHUNK", chunk)
    if "too long" in reason:
        monkeypatch.setattr(registry.rows.row, "ROW_LIMIT", 100)
        monkeypatch.setattr(registry.rows.json_values, "CHUNK", min(chunk, 100))  # what is held already is not refused
    (tmp_path / "a.json").write_text(f"[{A}, {bad}{behind}")
    first, refused, *rest = read_rows([tmp_path / "a.json"])
    assert first.data == {"a": 1}  # type: ignore[union-attr]
    assert isinstance(refused, BadRow)
    assert (refused.number, refused.reason) == (2, reason)
    assert rest == ([Row(str(tmp_path / "a.json"), 3, {"a": 2})] if B in behind else [])


@pytest.mark.parametrize("chunk", [1, 5, 1 << 20])
def test_an_array_that_ends_within_a_row_that_is_passed_over_is_refused(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(registry.rows.json_values, "CHUNK", chunk)
    (tmp_path / "a.json").write_text(f'[{A},\n{{"a": {"[" * 5000}, "b\\')
    with pytest.raises(UsageError, match="row 2, line 2: not JSON: the file ends in the middle of a row"):
        list(read_rows([tmp_path / "a.json"]))


@pytest.mark.parametrize("text", ["1e999", "-1e400", '{"a": [1e309]}', "9" * 5000])
def test_numbers_beyond_all_bounds_are_no_json(text):
    with pytest.raises(json.JSONDecodeError, match="too large"):
        decode_json(text.encode())


@pytest.mark.parametrize("text", ["9" * 4000, "-" + "1" * 400, "[1e308, 18446744073709551617]"])
def test_numbers_that_python_can_hold_are_exact(text):
    assert decode_json(text.encode()) == json.loads(text)


def test_a_byte_order_mark_in_front_of_a_later_row_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(f"{A}\n\ufeff{B}\n".encode())
    _, bad = read_rows([tmp_path / "a.jsonl"])
    assert bad.reason == "not JSON: a byte order mark stands before the row, as where files were joined"  # type: ignore[union-attr]
