"""CSV and TSV: what a wrong quote costs, and what the header gives away."""

import logging
import tracemalloc

import pytest

import registry.rows.delimited
import registry.rows.row
from registry.errors import UsageError
from registry.rows import BadRow, Row, read_rows


def read(tmp_path, text, name="a.csv"):
    (tmp_path / name).write_bytes(text.encode())
    return list(read_rows([tmp_path / name]))


def test_text_behind_a_closing_quote_costs_that_row_with_all_its_lines(tmp_path):
    good, bad, last = read(tmp_path, 'a,b\n1,2\n"x\ny" z,3\n4,5\n')
    assert isinstance(bad, BadRow)
    assert (bad.number, bad.reason) == (2, "text stands behind the closing quote of a cell")
    assert bad.raw == '"x\ny" z,3'
    assert (good.data, last.data) == ({"a": "1", "b": "2"}, {"a": "4", "b": "5"})  # type: ignore[union-attr]
    assert last.number == 3


def test_a_row_of_another_length_keeps_its_text_as_it_was(tmp_path):
    _, bad = read(tmp_path, 'a,b\n1,2\n"x, ""y"""\n')
    assert bad == BadRow(str(tmp_path / "a.csv"), 2, "the row has 1 cells, the header 2", '"x, ""y"""')


@pytest.mark.parametrize("cell", ['"open', '"open\n', 'x,"open', 'x,"open\n1,2\n3,4\n'])
def test_a_quote_that_is_never_closed_is_refused_though_the_cells_may_be_as_many_as_the_columns(tmp_path, cell):
    with pytest.raises(UsageError, match=r"a\.csv, line 3: not CSV: a quote that opens here is never closed"):
        read(tmp_path, "a,b\n1,2\n" + cell)


def test_an_open_quote_does_not_take_the_file_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(registry.rows.delimited, "SPAN_LIMIT", 100_000)
    tracemalloc.start()
    with pytest.raises(UsageError, match="line 2: not CSV: the row that begins here is too long"):
        read(tmp_path, 'a,b\n1,"2\n' + "3,4\n" * 2_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6  # of which the test's own text is 16 MB


def test_blank_lines_before_the_header_are_passed_over(tmp_path):
    (row,) = read(tmp_path, "\n\r\na,b\n1,2\n")
    assert row == Row(str(tmp_path / "a.csv"), 1, {"a": "1", "b": "2"})


@pytest.mark.parametrize(
    ("text", "name", "warned"),
    [
        ("a;b\n1;2\n", "a.csv", True),
        ("a\tb\n1\t2\n", "a.csv", True),
        ("a,b\n1,2\n", "a.tsv", True),
        ('"a,b"\n1\n', "a.csv", False),
        ("text\n1;2\n", "a.csv", False),
    ],
)
def test_one_column_that_looks_like_several_is_told(tmp_path, caplog, text, name, warned):
    with caplog.at_level(logging.WARNING, "tunekit"):
        assert len(read(tmp_path, text, name)) == 1
    assert ("is read as one column" in caplog.text) == warned


@pytest.mark.parametrize("text", ['{"a": 1, "b": 2}\n{"a": 3, "b": 4}\n', '[\n{"a": 1}]', '{"a": "x", "b": "x"}\n'])
def test_json_named_csv_is_refused(tmp_path, text):
    with pytest.raises(UsageError, match=r"this is JSON, not CSV\n  Name it \.jsonl or \.json"):
        read(tmp_path, text)
