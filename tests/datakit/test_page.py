"""The parts that reports are made of: whole documents that need nothing beside them, and every text escaped."""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from datakit.page import answer, heading, note, page, paragraph, picture, table


class Outline(HTMLParser):
    """Every tag in order, and all text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


@given(st.text())
def test_text_is_text_wherever_it_stands(text):
    parts = [
        paragraph(text),
        heading(text),
        note(text),
        answer(text, text),
        table([text], [[text]]),
        picture(b"", text),
    ]
    plain = [paragraph(""), heading(""), note(""), answer("", ""), table(["x"], [[""]]), picture(b"", "")]
    heads = ["thead", "tr", "th"]
    for part, empty in zip(parts, plain, strict=True):
        assert [t for t in Outline(part).tags if t not in heads] == [t for t in Outline(empty).tags if t not in heads]
    page("t", *parts).encode()  # halves of characters are spelled out


def test_a_page_is_a_whole_document_without_any_address():
    made = page("Faults & more", paragraph("one"), "", picture(b"png", "a picture"))
    assert made.startswith('<!doctype html>\n<html lang="en">')
    assert "<title>Faults &amp; more</title>" in made
    assert "<h1>Faults &amp; more</h1>" in made
    assert made.endswith("</html>\n")
    assert "http" not in made
    assert "prefers-color-scheme: dark" in made
    assert "@media print" in made


def test_columns_are_set_flush_right_and_rows_set_off_by_number():
    made = table(["name", "n"], [["a", 1], ["b", 2]], right={1}, mark={1})
    assert '<th>name</th><th class="r">n</th>' in made
    assert '<tr><td>a</td><td class="r">1</td></tr>' in made
    assert '<tr class="mark"><td>b</td><td class="r">2</td></tr>' in made


def test_a_table_without_heads_has_no_row_of_them():
    assert "thead" not in table(["", ""], [["a", "b"]])


def test_a_picture_may_have_another_for_the_dark():
    assert "source" not in picture(b"day", "x")
    assert "ZGF5" in picture(b"day", "x")
    made = picture(b"day", "x", dark=b"night")
    assert 'media="screen and (prefers-color-scheme: dark)"' in made
    assert "bmlnaHQ=" in made
