"""Rows from files: what was written comes back, broken rows are told with their place, broken files are refused."""

import csv
import gzip
import io
import json
import logging
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

import registry.rows.json_values
from registry.errors import UsageError
from registry.rows import BadRow, Row, decode_json, read_rows

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ROWS = st.lists(st.dictionaries(TEXT, VALUES, max_size=4), min_size=1, max_size=6)


def rows_of(path, **options):
    """The data of every row; fails on a row that could not be read."""
    found = list(read_rows([path], **options))
    assert [r for r in found if isinstance(r, BadRow)] == []
    return [r.data for r in found]  # type: ignore[union-attr]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# --- what is written is read back -------------------------------------------------------------------------------------


@given(ROWS, st.booleans())
def test_jsonl_rows_come_back_as_they_were_written(tmp_path_factory, rows, ascii_only):
    path = tmp_path_factory.getbasetemp() / "identity.jsonl"
    write(path, "\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in rows))
    assert rows_of(path) == rows


@given(ROWS, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_json_rows_come_back_as_they_were_written(tmp_path_factory, rows, ascii_only, indent):
    path = tmp_path_factory.getbasetemp() / "identity.json"
    write(path, json.dumps(rows, ensure_ascii=ascii_only, indent=indent))
    assert rows_of(path) == rows


@given(
    st.lists(TEXT.filter(bool), min_size=1, max_size=4, unique=True).filter(lambda names: names[0][0] != "\ufeff"),
    st.lists(st.lists(TEXT, min_size=4, max_size=4), min_size=1, max_size=5),
    st.sampled_from([(",", "csv"), ("\t", "tsv")]),
)
def test_csv_cells_come_back_as_the_text_they_were(tmp_path_factory, header, lines, kind):
    delimiter, ending = kind
    path = tmp_path_factory.getbasetemp() / f"identity.{ending}"
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(
        [header, *(line[: len(header)] for line in lines)]
    )
    write(path, text.getvalue())
    assert rows_of(path) == [dict(zip(header, line, strict=False)) for line in lines]


def test_csv_guesses_no_types(tmp_path):
    assert rows_of(write(tmp_path / "a.csv", "code,n\n007,1e5\n,true\n")) == [
        {"code": "007", "n": "1e5"},
        {"code": "", "n": "true"},
    ]


def test_whole_numbers_of_any_size_are_exact(tmp_path):
    row = {"a": 2**63 - 1, "b": [2**64, {"c": -(10**30)}], "d": 1.5e300}
    assert rows_of(write(tmp_path / "a.jsonl", json.dumps(row))) == [row]
    assert rows_of(write(tmp_path / "a.json", json.dumps([row]))) == [row]
    assert decode_json(b"[18446744073709551616]") == [18446744073709551616]


@pytest.mark.parametrize("layout", ["parquet", "file", "stream"])
def test_parquet_and_both_arrow_layouts_come_back(tmp_path, layout):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"n": i, "turns": [{"from": "human", "value": "你" * i}], "maybe": None} for i in range(5)]
    table = pa.Table.from_pylist(rows)
    path = tmp_path / ("a.parquet" if layout == "parquet" else "a.arrow")
    if layout == "parquet":
        pq.write_table(table, path, row_group_size=2)
    else:
        make = pa.ipc.new_file if layout == "file" else pa.ipc.new_stream
        with make(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    assert rows_of(path) == rows
    assert [r.number for r in read_rows([path])] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "txt"])
@pytest.mark.parametrize("compression", ["gz", "zst"])
def test_compressed_files_hold_the_same_rows(tmp_path, ending, compression):
    import pyarrow as pa

    content = {"jsonl": '{"text": "a"}\n', "json": '[{"text": "a"}]', "csv": "text\na\n", "txt": "a\n"}[ending].encode()
    path = tmp_path / f"a.{ending}.{compression}"
    if compression == "gz":
        path.write_bytes(gzip.compress(content))
    else:
        with pa.CompressedOutputStream(str(path), "zstd") as out:
            out.write(content)
    assert rows_of(path) == [{"text": "a"}]


# --- the streaming reader of JSON arrays ------------------------------------------------------------------------------

ANY_TEXT = st.text(st.characters(exclude_categories=[]) | st.sampled_from('\\"/{}[],:\n\u2028😀'))
DOCUMENTS = st.lists(  # numbers at the top are rows that are none, and the hardest to cut in two
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
        max_leaves=10,
    ),
    min_size=1,
    max_size=5,
)


@given(DOCUMENTS, st.integers(1, 12), st.sampled_from([None, 0, 3]))
def test_an_array_read_in_small_pieces_is_what_json_loads_gives(tmp_path_factory, document, chunk, indent):
    """Escapes, surrogates (as escapes, also lone ones) and numbers may lie across any boundary."""
    path = tmp_path_factory.getbasetemp() / "pieces.json"
    text = json.dumps(document, indent=indent)
    write(path, text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry.rows.json_values, "CHUNK", chunk)
        found = list(read_rows([path]))
    assert [r.number for r in found] == list(range(1, len(document) + 1))
    for row, value in zip(found, json.loads(text), strict=True):
        if isinstance(value, dict):
            assert isinstance(row, Row)
            assert row.data == value
        else:
            assert isinstance(row, BadRow)
            assert json.loads(row.raw) == value


@given(ROWS, st.integers(1, 12))
def test_unicode_read_in_small_pieces_stays_whole(tmp_path_factory, rows, chunk):
    path = tmp_path_factory.getbasetemp() / "unicode.json"
    write(path, json.dumps(rows, ensure_ascii=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry.rows.json_values, "CHUNK", chunk)
        assert rows_of(path) == rows


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ('[\n{"a": 1},\n{"a": 2', "row 2, line 3", "the file ends in the middle of a row"),
        ('[\n{"a": 1},\n{"a":\n"two', "row 2, line 4", "the file ends in the middle of a row"),
        ('[\n{"a": 1},\n', "row 2, line 3", "the file ends in the middle of a row"),
        ('[\n{"a": 1}\n', "row 1, line 3", "the file ends before the array does"),
        ('[{"a": 1}]\n{"a": 2}', "row 1, line 2", "there is more text after the end of the array"),
        ('[{"a": 1}\n{"a": 2}]', "row 1, line 2", "a comma or the end of the array belongs here"),
        ('[{"a": 1},\n{"b": NaN},\n{"c": 3}]', "row 2, line 2", "NaN is not a JSON number"),
        ("[{'a': 1}, {}, {}, {}, {}, {}, {}]", "row 1, line 1", "Expecting property name enclosed in double quotes"),
    ],
)
def test_a_broken_array_is_refused_with_row_and_line(tmp_path, monkeypatch, chunk, text, place, reason):
    monkeypatch.setattr(registry.rows.json_values, "CHUNK", chunk)
    path = write(tmp_path / "a.json", text)
    with pytest.raises(UsageError) as error:
        list(read_rows([path]))
    assert str(error.value).splitlines()[0] == f"{path}, {place}: not JSON: {reason}"


def test_a_trailing_comma_is_no_row(tmp_path):
    with pytest.raises(UsageError, match="row 2, line 1: not JSON: Expecting value"):
        list(read_rows([write(tmp_path / "a.json", '[{"a": 1},]' + " " * 20)]))


def test_an_array_is_not_held_in_memory(tmp_path):
    path = tmp_path / "big.json"
    with path.open("w") as out:
        out.write("[" + ",\n".join(json.dumps({"text": "x" * 1000}) for _ in range(30_000)) + "]")
    tracemalloc.start()
    count = sum(1 for _ in read_rows([path]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 30_000
    assert path.stat().st_size > 30e6
    assert peak < 8e6


# --- the content decides, not the name --------------------------------------------------------------------------------


def test_an_array_named_jsonl_is_read_as_an_array_and_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "tunekit"):
        assert rows_of(write(tmp_path / "a.jsonl", '[{"a": 1},\n{"a": 2}]')) == [{"a": 1}, {"a": 2}]
    assert "named as JSON lines but holds one JSON array" in caplog.text


def test_json_lines_named_json_are_read_line_by_line_and_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "tunekit"):
        assert rows_of(write(tmp_path / "a.json", '{"a": 1}\n{"a": 2}\n')) == [{"a": 1}, {"a": 2}]
    assert "named .json but holds JSON lines" in caplog.text


def test_objects_one_after_another_are_read(tmp_path):
    assert rows_of(write(tmp_path / "a.json", '{\n "a": 1\n}\n{\n "a": 2\n}')) == [{"a": 1}, {"a": 2}]


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"a": "x"}\r\n\r\n{"a": "y"}\r\n'),
        ("a.json", '[{"a": "x"},\r\n{"a": "y"}]\r\n'),
        ("a.csv", "a\r\nx\r\ny\r\n"),
    ],
)
def test_bom_and_crlf_change_nothing(tmp_path, name, content):
    assert rows_of(write(tmp_path / name, b"\xef\xbb\xbf" + content.encode())) == [{"a": "x"}, {"a": "y"}]


def test_text_lines_lose_bom_and_crlf_and_blank_lines_are_passed_over_unless_kept(tmp_path):
    path = write(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\n\r\n two \r\n")
    assert [(r.number, r.data) for r in read_rows([path])] == [(1, {"text": "one"}), (3, {"text": " two "})]  # type: ignore[union-attr]
    assert rows_of(path, keep_blank_lines=True) == [{"text": "one"}, {"text": ""}, {"text": " two "}]


@pytest.mark.parametrize(
    ("name", "content", "reason", "raw"),
    [
        (
            "a.jsonl",
            b'{"a": "x"}\n{"a": "\xff"}\n',
            "invalid UTF-8: byte 0xff at offset 7 of the line",
            '{"a": "\\xff"}',
        ),
        ("a.json", b'[{"a": "x"}, {"a": "\xff"}]', "invalid UTF-8: byte 0xff", '{"a": "\\xff"}'),
        ("a.csv", b"a\nx\n\xff\n", "invalid UTF-8", "\\xff"),
        ("a.txt", b"x\n\xff\n", "invalid UTF-8: byte 0xff at offset 0 of the line", "\\xff"),
        ("a.jsonl", b'{"a": "x"}\n{"a": "tru', "not JSON: the file ends in the middle of this row", '{"a": "tru'),
        ("a.jsonl", b'{"a": "x"}\n[1, 2]\n', "a row must be a JSON object, this is an array", "[1, 2]"),
        ("a.json", b'[{"a": "x"}, null]', "a row must be a JSON object, this is null", "null"),
        ("a.csv", b"a,b\nx,y\nz\n", "the row has 1 cells, the header 2", "z"),
    ],
)
def test_a_row_that_cannot_be_read_is_told_with_its_place_and_the_others_are_read(tmp_path, name, content, reason, raw):
    path = write(tmp_path / name, content)
    good, bad = read_rows([path])
    assert isinstance(good, Row)
    assert bad == BadRow(str(path), 2, reason, raw)
    assert bad.where == f"{path}, row 2"


def test_a_row_that_is_no_json_names_the_column(tmp_path):
    _, bad = read_rows([write(tmp_path / "a.jsonl", '{"a": "x"}\n{"a": }\n')])
    assert isinstance(bad, BadRow)
    assert (bad.number, bad.raw) == (2, '{"a": }')
    assert bad.reason.startswith("not JSON: ")  # the middle is orjson's own words
    assert bad.reason.endswith(" at column 7")


@pytest.mark.parametrize("brackets", ["[]", '{"b":1}'], ids=["arrays", "objects"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_row_nested_too_deep_costs_only_itself(tmp_path, name, brackets):
    opening, closing = ("[", "]") if brackets == "[]" else ('{"b":', "}")
    content = '{"a": ' + opening * 100_000 + "1" + closing * 100_000 + '}\n{"a": 1}\n'
    if name == "a.json":
        content = "[" + content.replace("\n", ",", 1) + "]"
    deep, fine = read_rows([write(tmp_path / name, content)])
    assert isinstance(deep, BadRow)
    assert deep.reason == "the row is nested too deep"
    assert fine == Row(str(tmp_path / name), 2, {"a": 1})


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt"])
def test_utf_16_is_refused_by_name(tmp_path, name, encoding):
    path = write(tmp_path / name, '\ufeff{"a": 1}\n'.encode(encoding))
    with pytest.raises(UsageError, match="the file is UTF-16, not UTF-8\n  Save it as UTF-8"):
        list(read_rows([path]))


@pytest.mark.parametrize(
    "name",
    ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt", "a.jsonl.gz", "only_header.csv", "blank.jsonl", "none.json"],
)
def test_a_file_without_a_row_is_refused(tmp_path, name):
    content = {"only_header.csv": b"a,b\n", "blank.jsonl": b"\n\n", "none.json": b"[]"}.get(name, b"")
    path = write(tmp_path / name, gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(UsageError, match="there is no row in it: the file is empty"):
        list(read_rows([path]))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.parquet", b"PAR1 no", "cannot be read as Parquet"),
        ("a.parquet", b"", "cannot be read as Parquet"),
        ("a.arrow", b"ARROW1 no", "cannot be read as Arrow"),
        ("a.jsonl.gz", b"no gzip", "named .gz and is not compressed so"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 500, mtime=0)[:-20], "the compressed file is cut off or damaged"),
        ("a.jsonl.zst", b"no zstd", "named .zst and is not compressed so"),
        ("a.csv", b"a,a\n1,2\n", "the header names a column twice: a"),
        ("a.csv", b"a\xff,b\n1,2\n", "the header is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_matter_of_the_input(tmp_path, name, content, reason):
    with pytest.raises(UsageError, match=reason):
        list(read_rows([write(tmp_path / name, content)]))


def test_a_parquet_file_cut_off_in_the_middle_is_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": list(range(1000))}), tmp_path / "whole.parquet")
    path = write(tmp_path / "a.parquet", (tmp_path / "whole.parquet").read_bytes()[:-100])
    with pytest.raises(UsageError, match="cannot be read as Parquet: Parquet magic bytes not found"):
        list(read_rows([path]))


def test_a_folder_of_mixed_kinds_is_refused(tmp_path):
    write(tmp_path / "a.csv", "a\n1\n")
    write(tmp_path / "b.jsonl", '{"a": 1}')
    with pytest.raises(UsageError, match=r"the folder mixes kinds of files: csv \(a.csv\), jsonl \(b.jsonl\)"):
        list(read_rows([tmp_path]))


def test_rows_of_many_files_keep_their_order_and_know_their_place(tmp_path):
    first = write(tmp_path / "2.jsonl", '{"n": 1}\n\n{"n": 2}\n')
    second = write(tmp_path / "1.csv", "n\n3\n")
    found = list(read_rows([first, second]))
    assert [(r.where, r.data["n"]) for r in found] == [  # type: ignore[union-attr]
        (f"{first}, row 1", 1),
        (f"{first}, row 3", 2),
        (f"{second}, row 1", "3"),
    ]


def test_standard_input_is_json_lines(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(b'{"a": 1}\n'))))  # type: ignore[arg-type]
    assert rows_of("-") == [{"a": 1}]
