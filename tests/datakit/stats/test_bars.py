"""The histogram in characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakit.stats.bars import draw_bars


def of(*counts, width=64, beyond=0, longest=0):
    return {"width": width, "counts": list(counts), "beyond": beyond, "longest": longest or width * len(counts) - 1}


def test_bars_are_as_long_as_their_share_and_the_suggestion_is_marked():
    assert draw_bars(of(8, 4, 0, 1), 128, 40) == [
        "   0–63  8  " + "█" * 22,
        " 64–127  4  " + "█" * 11 + " ◂ 128",
        "128–191  0  ",
        "192–255  1  ██▊",
    ]


def test_a_terminal_that_knows_no_other_signs_gets_plain_ones():
    lines = draw_bars(of(8, 4, 0, 1), 128, 40, ascii_only=True)
    assert lines[1] == " 64-127  4  ########## <- 128"
    assert "".join(lines).isascii()


def test_rows_beyond_the_last_bin_have_a_line_of_their_own():
    assert draw_bars(of(8, beyond=2, longest=9000), 64, 60)[-1].startswith("64–9,000  2  █")


@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=61), st.integers(30, 200), st.integers(1, 5000), st.booleans()
)
def test_no_line_is_wider_than_the_terminal_and_few_are_drawn(counts, columns, suggested, ascii_only):
    lines = draw_bars(of(*counts), suggested, columns, ascii_only=ascii_only)
    assert len(lines) <= 20
    assert max(map(len, lines)) <= max(columns, 45)


@pytest.mark.parametrize("ascii_only", [True, False])
def test_one_row_among_a_million_is_still_seen(ascii_only):
    assert draw_bars(of(10**6, 1), 64, 80, ascii_only=ascii_only)[1].split()[2] in "▏."
