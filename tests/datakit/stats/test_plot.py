"""The picture is a PNG of one size, in light and dark ink, whatever the rows."""

import io

import numpy as np
import pytest

from datakit.stats.plot import DARK, LIGHT, draw_lengths
from datakit.stats.summary import summarize
from registry.records import TextRecord
from tests.conftest import chat, preference
from tests.datakit.stats.conftest import measured


@pytest.mark.parametrize(
    ("records", "stage"),
    [
        ([chat("q", "a")], "sft"),
        ([chat("q", "a" * n) for n in range(1, 200)] + [chat("q", "a" * 90_000)], "sft"),
        ([preference("q", chosen="a", rejected="b")], "dpo"),
        ([TextRecord("x" * 5000)] * 3, "pt"),
    ],
)
def test_any_rows_can_be_drawn(records, stage):
    found = measured(records, stage=stage)
    assert drawn(found, LIGHT)[16:24] == (1080).to_bytes(4, "big") + (600).to_bytes(4, "big")


def test_the_dark_picture_is_another():
    found = measured([chat("q", "a")])
    assert drawn(found, LIGHT) != drawn(found, DARK)


def drawn(found, colours):
    handle = io.BytesIO()
    draw_lengths(np.sort(found.lengths.rows()), summarize(found), handle, colours)
    return handle.getvalue()
