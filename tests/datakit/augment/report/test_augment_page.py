"""The page of an augment run: what it says, that it needs nothing beside it, and that no row can put markup into it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st

from datakit.augment.filters import Judged, Verdict
from datakit.augment.report import AugmentReport, Figures
from datakit.augment.report.page import augment_page
from tests.datakit.augment.filters.made import chat, made

VOID = ("meta", "img", "source", "br")


class Reader(HTMLParser):
    """The tags, those that are open and never closed, the attributes, and all text outside of the style sheet."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.faults: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def page_of(question: str, recipe: str = "expand", detail: str = "why") -> Reader:
    report = AugmentReport()
    report.ask(recipe, 2)
    report.seed(chat("Is tea hot?", "Yes."))
    report.add(Judged({}, made("Is ice hot?", "No."), Verdict()), recipe)
    report.add(Judged({}, made(question, "No."), Verdict("echo", detail)), recipe)
    return Reader(augment_page(report.as_json(Figures(calls=2, answered=2, cost=0.5))))


def test_the_page_says_what_was_made_and_why_rows_were_dropped():
    page = page_of("Is tea hot?", detail="the seed again")
    assert "1 row kept, 1 dropped: 2 made of 1 seed." in page.text
    assert "cost: 0.50 USD, 0.50 USD a kept row" in page.text
    for told in (
        "kept: 1 (50.0%)",
        "echo: 1 (50.0%)",
        "the seed again",
        "Is tea hot? → No.",
        "distinct-2",
        "2 answered",
    ):
        assert told in page.text


def test_a_page_of_no_rows_is_one():
    page = Reader(augment_page(AugmentReport().as_json()))
    assert "No row was dropped." in page.text
    assert (page.faults, page.open) == ([], [])


def test_the_page_asks_for_nothing_from_elsewhere():
    page = page_of("Is tea hot?")
    assert not {"script", "link", "iframe", "img", "object"} & {*page.tags}
    assert not any(re.search(r"https?:|url\(|//", value or "") for name, value in page.attributes if name != "lang")


@settings(max_examples=60, deadline=None)
@given(
    st.text(max_size=80) | st.sampled_from(["<script>x</script>", "</td></table>", '"><b>', "&amp;", "<!--"]),
    st.text(max_size=20),
)
def test_no_row_can_put_markup_into_it(text, name):
    plain, page = page_of("Is tea hot?"), page_of(text or "-", recipe=name, detail=text)
    assert (page.faults, page.open) == ([], [])
    assert page.tags == plain.tags
    assert [a for a, _ in page.attributes] == [a for a, _ in plain.attributes]
