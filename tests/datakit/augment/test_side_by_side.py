"""Seeds beside the rows made of them, as ``--sample`` prints them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from datakit.augment.filters import Judged, Verdict
from datakit.augment.rollout import Seed
from datakit.augment.side_by_side import MOST_CHARS, show_sample, side_by_side
from registry.records import TextRecord
from tests.datakit.augment.filters.made import made, seed

ECHO = Verdict("echo", "the seed again")


def judged(*texts: str, of: Seed | list[Seed] | None = None, verdict: Verdict = Verdict(), **notes: object) -> Judged:
    row = made(*texts, of=of, **notes)
    return Judged({}, row, verdict)


def test_a_wide_terminal_has_the_seed_on_the_left_and_its_rows_on_the_right():
    tea = seed("Is tea hot?", "Yes.", number=3)
    lines = [
        *side_by_side([judged("Is ice hot?", "No.", of=tea), judged("Is tea hot?", "Yes.", of=tea, verdict=ECHO)], 103)
    ]
    assert lines == [
        f"{'seed: seeds.jsonl, row 3':50} │ row 1",
        f"{'user: Is tea hot?':50} │ user: Is ice hot?",
        f"{'assistant: Yes.':50} │ assistant: No.",
        f"{'':50} │",
        f"{'':50} │ row 2, dropped: echo (the seed again)",
        f"{'':50} │ user: Is tea hot?",
        f"{'':50} │ assistant: Yes.",
    ]


def test_a_narrow_terminal_has_one_under_the_other():
    lines = [*side_by_side([judged("Is ice hot?", "No.", of=seed("Is tea hot?", "Yes."), score=8)], 60)]
    assert lines == [
        "seed: seeds.jsonl, row 1", "user: Is tea hot?", "assistant: Yes.", "", "row 1, score 8", "user: Is ice hot?",
        "assistant: No.",
    ]  # fmt: skip


def test_each_seed_has_its_own_rows():
    first, second = seed("a?", "b.", number=1), seed("c?", "d.", number=2)
    lines = [*side_by_side([judged("e?", "f.", of=first), judged("g?", "h.", of=second)], 60)]
    assert lines.index("seed: seeds.jsonl, row 2") == lines.index("assistant: f.") + 2


def test_long_texts_are_cut_and_the_rest_is_counted():
    lines = [*side_by_side([judged("word " * 500, "No.")], 80)]
    assert f"({2500 - MOST_CHARS:,} more characters)" in " ".join(lines)


def test_rows_without_a_seed_and_pieces_of_text_are_named():
    assert next(iter(side_by_side([judged("a?", "b.", of=[])], 60))) == "no seed"
    piece = Seed(0, "doc.txt", 1, TextRecord("Tea comes from a shrub."), 2)
    assert [*side_by_side([judged("a?", "b.", of=piece)], 60)][:2] == [
        "seed: doc.txt, row 1, piece 3",
        "Tea comes from a shrub.",
    ]


def test_a_row_cannot_drive_the_terminal():
    assert "\x1b" not in "\n".join(side_by_side([judged("\x1b[2Ja", "[red]b[/red]")], 120))
    assert "[red]b[/red]" in "\n".join(side_by_side([judged("\x1b[2Ja", "[red]b[/red]")], 120))


def test_drops_are_red_where_there_is_colour():
    assert "\x1b[31mrow 1, dropped: echo (the seed again)\x1b[0m" in "\n".join(
        side_by_side([judged("a?", "b.", verdict=ECHO)], 60, colour=True)
    )


def test_a_sample_is_printed_on_stdout(capfdbinary):
    show_sample([judged("水?", "b.")])
    assert "水?" in capfdbinary.readouterr().out.decode()


@settings(max_examples=60, deadline=None)
@given(st.text("ab 水\n\t", max_size=200), st.text("ab 水\n", max_size=200), st.integers(40, 140))
def test_no_line_is_wider_than_the_terminal(asked, answer, width):
    rows = [judged(asked, answer, of=seed(answer, asked)), judged(answer, asked, of=seed(answer, asked), verdict=ECHO)]
    assert max(map(cell_len, side_by_side(rows, width))) <= width
