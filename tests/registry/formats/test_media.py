"""Rows with pictures, films or sound are refused, with how many they hold and how many places their texts have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from registry.datasets import Layout
from registry.errors import RowFault
from registry.formats import LAYOUTS, columns
from registry.formats.media import check_no_media, media_columns
from registry.records import Record
from tests.conftest import chat, preference

LAYOUT = Layout("sharegpt", columns(messages="conversations", images="pictures", audios="sounds"))


@pytest.mark.parametrize(
    ("row", "record", "fault"),
    [
        (
            {"pictures": ["a.png", "b.png"]},
            chat("<image>a<image>", "b"),
            'field "images": it has 2 of them for 2 <image>',
        ),
        ({"sounds": "a.wav"}, chat("a", "b"), 'field "audios": it has 1 of them for 0 <audio>'),
        (
            {"pictures": ["a.png"]},
            preference("<image>", chosen="a", rejected="b"),
            'field "images": it has 1 of them for 1 <image>',
        ),
    ],
)
def test_a_row_that_holds_media_is_refused(row: dict[str, Any], record: Record, fault: str) -> None:
    with pytest.raises(RowFault) as caught:
        check_no_media(row, record, LAYOUT)
    assert str(caught.value) == f"{fault}, and only text is encoded"


@pytest.mark.parametrize("row", [{}, {"pictures": []}, {"pictures": None}, {"images": ["a.png"]}])
def test_a_row_whose_columns_are_empty_is_text(row: dict[str, Any]) -> None:
    check_no_media(row, chat("<image>", "b"), LAYOUT)


def test_only_columns_that_are_named_may_hold_media() -> None:
    assert media_columns(LAYOUT) == ["images", "audios"]
    assert media_columns(LAYOUTS["sharegpt"]) == []
    check_no_media({"pictures": ["a"]}, chat("a", "b"), replace(LAYOUT, columns=LAYOUTS["sharegpt"].columns))
