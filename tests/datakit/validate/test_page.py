"""The HTML page: what it says, that it needs nothing beside it, and that no row can put markup into it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datakit.validate.page import MOST_KINDS, validate_page

ROLE = {
    "code": "SG007",
    "title": "an unknown role",
    "level": "error",
    "count": 1812,
    "field": "conversations[*].from",
    "file": "data/a.jsonl",
    "row": 812,
    "value": "asistant",
    "mend": "Use one of the roles that the message lists.",
    "fixable": False,
}
REPORT = {
    "rows_in": 20000,
    "rows_out": 18000,
    "rows_with_warnings": 500,
    "seconds": 0.5,
    "format": "sharegpt (conversations)",
    "stage": "sft",
    "faults": [ROLE],
    "files": [{"file": "data/a.jsonl", "rows": 20000, "warned": 500, "rejected": 2000}],
}


class Reader(HTMLParser):
    """The tags, the attributes, the cells and all text outside of the style sheet."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.cells: list[str] = []
        self.text = ""
        self._within: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._within.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        while self._within and self._within.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" not in self._within:
            self.text += data
        if "td" in self._within:
            self.cells[-1] += data


def read(**changes: Any) -> Reader:
    return Reader(validate_page({**REPORT, **changes}))


def test_the_page_opens_with_how_many_rows_are_bad() -> None:
    text = read().text
    assert "2,000 of 20,000 rows have errors; 500 rows have warnings only." in text
    assert "format sharegpt (conversations) · stage sft · 40,000 rows a second" in text


@pytest.mark.parametrize(
    ("rows_in", "rows_out", "warned", "said"),
    [
        (0, 0, 0, "There are no rows."),
        (1, 1, 0, "The row is good."),
        (1200, 1200, 0, "All 1,200 rows are good."),
        (10, 9, 0, "1 of 10 rows has errors."),
        (10, 10, 1, "None of 10 rows has errors; 1 row has warnings only."),
    ],
)
def test_the_first_sentence_fits_the_counts(rows_in: int, rows_out: int, warned: int, said: str) -> None:
    assert said in read(rows_in=rows_in, rows_out=rows_out, rows_with_warnings=warned).text


def test_the_bar_says_its_shares_in_words_and_never_rounds_some_to_none() -> None:
    text = read(rows_in=1_000_000, rows_out=999_999, rows_with_warnings=0).text
    assert "good: 999,999 (99.99%)" in text
    assert "good, with warnings: 0 (0%)" in text
    assert "with errors: 1 (0.01%)" in text


def test_a_fault_is_told_with_count_level_code_mend_and_where_the_first_one_is() -> None:
    assert read().cells[:5] == [
        "1,812",
        "error",
        "SG007",
        "an unknown role\n→ Use one of the roles that the message lists.",
        "data/a.jsonl, row 812\nconversations[*].from\ne.g. asistant",
    ]


def test_what_fix_can_mend_is_said_once() -> None:
    assert "→ Join them. --fix can do it." in read(faults=[{**ROLE, "mend": "Join them.", "fixable": True}]).text
    mend = "Join them, or let it be mended: --fix"
    assert read(faults=[{**ROLE, "mend": mend, "fixable": True}]).text.count("--fix") == 1


def test_each_file_is_listed_with_its_good_and_bad_rows() -> None:
    assert read().cells[5:] == ["data/a.jsonl", "20,000", "18,000", "500", "2,000"]
    assert read(files=["a.jsonl", "b.jsonl"]).cells[5:] == ["a.jsonl", "b.jsonl"]


def test_a_report_without_faults_or_files_says_so() -> None:
    reader = Reader(validate_page({"rows_in": 3}))
    assert "All 3 rows are good." in reader.text
    assert "No fault was found." in reader.text
    assert reader.cells == []


def test_a_long_value_is_cut_and_says_so() -> None:
    assert f"e.g. {'x' * 120}…" in read(faults=[{**ROLE, "value": "x" * 5000}]).cells[4]


def test_kinds_beyond_the_longest_list_are_counted() -> None:
    reader = read(faults=[{**ROLE, "count": 1}] * (MOST_KINDS + 3), files=[])
    assert len(reader.cells) == 5 * MOST_KINDS
    assert "3 more kinds with 3 faults" in reader.text


def test_the_page_loads_nothing_from_anywhere() -> None:
    html = validate_page(REPORT)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", html)
    assert {"script", "link", "iframe", "img"}.isdisjoint(Reader(html).tags)


hostile = st.sampled_from(
    [
        "<script>alert(1)</script>",
        "</style><script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "&lt;b&gt;",
        "\0\x1b[31m\ud800",
    ]
)


@settings(max_examples=40, deadline=None)
@given(text=st.one_of(hostile, st.text(st.characters(exclude_categories=()), max_size=30)), where=st.data())
def test_no_text_of_a_row_becomes_markup(text: str, where: st.DataObject) -> None:
    name = where.draw(st.sampled_from(["code", "title", "level", "field", "file", "value", "mend"]))
    plain = read()
    changes = {"faults": [{**ROLE, name: text}], "files": [{**REPORT["files"][0], "file": text}]}  # type: ignore[index]
    if where.draw(st.booleans()):
        changes |= {"format": text, "stage": text}
    reader = read(**changes)
    assert reader.tags == plain.tags
    assert sorted(map(str, reader.attributes)) == sorted(map(str, plain.attributes))
    validate_page({**REPORT, **changes}).encode("utf-8")


def test_markup_in_a_value_is_shown_as_it_stands() -> None:
    assert "e.g. <script>alert(1)</script>" in read(faults=[{**ROLE, "value": "<script>alert(1)</script>"}]).cells[4]
