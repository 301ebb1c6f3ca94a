"""The page says what was measured, what is suggested, and how it was measured."""

from html.parser import HTMLParser

import numpy as np

from datakit.stats.summary import summarize
from datakit.stats.web import report_page
from tests.conftest import chat
from tests.datakit.stats.conftest import measured


class Texts(HTMLParser):
    """The texts of a page by the element they stand in, and the addresses it points to."""

    def __init__(self, page):
        super().__init__()
        self.open, self.texts, self.addresses = [], {}, []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "srcset", "href")]

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)


def page_of(found, files=("rows.jsonl",)):
    return report_page(np.sort(found.lengths.rows()), summarize(found), files)


def test_headline_suggestion_tables_and_method_are_on_the_page():
    found = measured([chat("q", "a" * 90)] * 9)
    texts = Texts(page_of(found)).texts
    assert texts["h1"] == ["Token lengths"]
    assert texts["strong"] == ["Suggested cutoff_len: 128"]
    assert texts["h2"] == ["Tokens a row", "What a cutoff_len does", "By role", "How it was measured"]
    assert "128 *" in texts["td"]
    assert {"tokenizer", "bytes", "template", "chatml", "ids made by", "tokenizers"} <= set(texts["td"])


def test_nothing_on_the_page_lies_elsewhere():
    found = Texts(page_of(measured([chat("q", "a")])))
    assert len(found.addresses) == 2  # the picture, by day and by night
    assert all(address.startswith("data:image/png;base64,") for address in found.addresses)


def test_names_from_outside_cannot_write_on_the_page():
    page = page_of(measured([chat("q", "a")]), files=("<script>alert(1)</script>.jsonl", "\x1b[31m"))
    assert "<script>" not in page
    assert "\x1b" not in page


def test_rejected_rows_are_listed_with_an_example():
    texts = Texts(page_of(measured([chat("q", "a"), chat("q", "")], template="empty"))).texts
    assert "Rejected rows" in texts["h2"]
    assert any("rows.jsonl, row 2" in text for text in texts["p"])
