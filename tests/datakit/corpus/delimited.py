"""CSV, TSV and plain text that break readers."""

from __future__ import annotations

from tests.datakit.corpus.case import Case, case, refused, rows

HEADER = "instruction,output\n"
ROW = "How long?,a\n"


def around(bad: str) -> str:
    """A line between two good rows."""
    return HEADER + ROW + bad + "\n" + ROW


def wide(columns: int, num_rows: int) -> str:
    names = ",".join(["instruction", "output", *(f"c{i}" for i in range(columns - 2))])
    return names + "\n" + (",".join(["q", "a", *("1" * (columns - 2))]) + "\n") * num_rows


CASES: list[Case] = [
    case("empty.csv", "", refused("empty")),
    case("header_only.csv", HEADER, refused("empty")),
    case("blank_lines_only.csv", "\n\n\n", refused("empty")),
    case("blank_line_first.csv", "\n" + HEADER + ROW, rows(1, 1)),
    case("blank_lines_between.csv", HEADER + ROW + "\n\n" + ROW, rows(2, 2)),
    case("mark.csv", "\ufeff" + HEADER + ROW, rows(1, 1), to_json=({"instruction": "How long?", "output": "a"},)),
    case("crlf.csv", (HEADER + ROW * 2).replace("\n", "\r\n"), rows(2, 2)),
    case("cr_only.csv", (HEADER + ROW * 2).replace("\n", "\r"), rows(2, 2)),
    case("utf16.csv", (HEADER + ROW).encode("utf-16"), refused("UTF-16")),
    case("latin1_cell.csv", around("café,a").encode("latin-1"), rows(3, 2, "UTF-8")),
    case("latin1_header.csv", "naïve,output\nq,a\n".encode("latin-1"), refused("header")),
    case("open_quote.csv", HEADER + ROW + '"never closed,a\n' + ROW * 50, refused("line 3")),
    case("open_quote_in_the_last_cell.csv", HEADER + ROW + 'q,"never closed\n' + ROW * 50, refused("line 3")),
    case("open_quote_in_the_header.csv", '"instruction,output\n' + ROW * 3, refused("line 1")),
    case("quote_closed_much_later.csv", around('"open\nfor long,a\nclosed",b,c'), rows(3, 2, "quote not closed")),
    case("text_behind_a_quote.csv", around('"5" inches",a'), rows(3, 2, "closing quote")),
    case("quote_in_the_middle.csv", around('5" inches,a'), rows(3, 3)),
    case(
        "quotes_commas_and_breaks.csv",
        HEADER + '"a, ""b""\r\nc","d\n\ne"\n',
        rows(1, 1),
        to_json=({"instruction": 'a, "b"\r\nc', "output": "d\n\ne"},),
    ),
    case("too_few_cells.csv", around("q"), rows(3, 2, "1 cells")),
    case("too_many_cells.csv", around("q,a,b"), rows(3, 2, "3 cells")),
    case("trailing_delimiter.csv", around("q,a,"), rows(3, 2, "3 cells")),
    case("duplicate_names.csv", "output,output\nq,a\n", refused("twice")),
    case("two_empty_names.csv", ",,output\n1,q,a\n", refused("twice")),
    case("one_empty_name.csv", ",instruction,output\n1,q,a\n", rows(1, 1)),
    case("nul.csv", around("a\x00b,a"), rows(3, 3)),
    case("one_column.csv", "text\na\nb\n", rows(2, 2)),
    case("semicolons.csv", "instruction;output\nq;a\n", rows(1, 1, "one column"), refused("instruction;output")),
    case("spaces_around_quotes.csv", around('"q" ,"a"'), rows(3, 2, "closing quote")),
    case("numbers_stay_text.csv", "text\n007\n", rows(1, 1), to_json=({"text": "007"},)),
    case("100000_columns.csv", wide(100_000, 3), rows(3, 3)),
    case("100000_columns_twice_named.csv", wide(100_000, 1).replace("c77,", "c78,", 1), refused("c78")),
    case("tabs.tsv", 'instruction\toutput\n"q\t1"\ta\n', rows(1, 1), to_json=({"instruction": "q\t1", "output": "a"},)),
    case("open_quote.tsv", 'instruction\toutput\nq\t"a\nq\tb\n', refused("line 2")),
    case(
        "line_beyond_the_limit.csv",
        around("x" * 400_000 + ",a"),
        refused("more than 300,000"),
        limits={"ROW_LIMIT": 300_000},
    ),
    case(
        "open_quote_beyond_the_limit.csv",
        HEADER + 'q,"a\n' + ROW * 50_000,
        refused("line 2"),
        limits={"ROW_LIMIT": 300_000},
    ),
    # --- plain text
    case("empty.txt", "", refused("empty")),
    case("blank_lines_only.txt", "\n \n", refused("empty")),
    case(
        "ends_of_lines.txt",
        "a\r\nb\rc\nd\u2028e",
        rows(4, 4),
        to_json=tuple({"text": t} for t in ("a", "b", "c", "d\u2028e")),
    ),
    case("mark.txt", "\ufeffa\n", rows(1, 1), to_json=({"text": "a"},)),
    case("latin1.txt", "a\né\nb\n".encode("latin-1"), rows(3, 2, "UTF-8")),
    case("utf16.txt", "a\nb\n".encode("utf-16"), refused("UTF-16")),
    case("nul.txt", "a\x00b\n", rows(1, 1)),
    case("long_line.txt", "x" * 3_000_000, rows(1, 1)),
    case(
        "line_beyond_the_limit.txt",
        "a\n" + "x" * 600_000 + "\nb\n",
        rows(3, 2, "more than 300,000"),
        limits={"ROW_LIMIT": 300_000},
    ),
]
