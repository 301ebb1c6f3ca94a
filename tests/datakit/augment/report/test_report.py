"""The report of an augment run: its figures, by hand, and what it never shows."""

from __future__ import annotations

import json
from array import array

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datakit.augment.filters import Judged, Verdict
from datakit.augment.report import AugmentReport, Figures
from datakit.augment.report.diversity import SAMPLE, Sample, diversity
from datakit.augment.report.example import SHOWN, example_of
from datakit.augment.report.lengths import Lengths, quantile
from datakit.augment.report.show import money, report_lines, share, show
from registry.records import Record, TextRecord
from tests.datakit.augment.filters.made import chat, made

DROPPED = Verdict("refusal", "RF001: an answer that refuses")
KEY = "AKIA" + "Q4T7ZJ2MWX5RNB6D"


def judged(*texts: str, verdict: Verdict = Verdict()) -> Judged:
    return Judged({}, made(*texts), verdict)


def report_of(*rows: Judged, asked: int = 0, seeds: tuple[Record, ...] = ()) -> AugmentReport:
    report = AugmentReport()
    report.ask("expand", asked)
    for record in seeds:
        report.seed(record)
    for row in rows:
        report.add(row, "expand")
    return report


def test_rows_made_are_rows_kept_and_rows_dropped():
    found = report_of(
        judged("a?", "b."), judged("c?", "d.", verdict=DROPPED), asked=3, seeds=(chat("q?", "a."),)
    ).as_json()
    assert found["rows"] == {"asked": 3, "made": 2, "kept": 1, "dropped": 1, "seeds": 1}
    assert found["recipes"] == [{"recipe": "expand", "asked": 3, "made": 2, "kept": 1, "share_kept": 0.5}]
    assert found["dropped"] == [
        {
            "reason": "refusal",
            "meaning": "an answer that refuses, or speaks of itself as an AI",
            "count": 1,
            "codes": {"RF001": 1},
            "detail": "RF001: an answer that refuses",
            "example": "c? → d.",
        }
    ]


def test_reasons_stand_in_the_order_in_which_they_are_looked_for():
    rows = [judged("a?", "b.", verdict=Verdict(reason, "why")) for reason in ("score", "echo", "empty", "echo")]
    assert [(e["reason"], e["count"]) for e in report_of(*rows).as_json()["dropped"]] == [
        ("empty", 1),
        ("echo", 2),
        ("score", 1),
    ]


def test_an_example_is_cut_and_stands_on_one_line():
    assert example_of(chat("a?\n\nb", "c  d\x1b[31m")) == "a? b → c d\\x1b[31m"
    long = example_of(TextRecord("x" * 500))
    assert long == "x" * (SHOWN - 1) + "…"


def test_a_row_with_a_secret_is_no_example_and_the_next_one_is():
    report = report_of(
        judged("My key?", f"It is {KEY}.", verdict=DROPPED),
        judged("And you?", "No.", verdict=Verdict("refusal", "RF003: another")),
    ).as_json()
    assert (report["dropped"][0]["detail"], report["dropped"][0]["example"]) == ("RF003: another", "And you? → No.")
    assert KEY not in json.dumps(report)


def test_where_no_row_may_be_shown_none_is():
    found = report_of(judged("My key?", f"{'x ' * 80}It is {KEY}.", verdict=DROPPED)).as_json()
    assert found["dropped"][0]["example"] == ""
    assert KEY[:8] not in json.dumps(found)
    assert "not shown" in "\n".join(report_lines(found))


def test_cost_is_shared_among_the_rows_that_are_kept():
    report = report_of(judged("a?", "b."), judged("c?", "d."), judged("e?", "f.", verdict=DROPPED))
    found = report.as_json(Figures(cost=0.05, prompt_tokens=600, completion_tokens=400))
    assert found["cost_per_kept_row"] == 0.025
    assert found["tokens_per_kept_row"] == 500
    assert report.as_json()["cost_per_kept_row"] is None


def test_a_run_without_rows_has_a_report():
    found = AugmentReport().as_json(Figures(cost=0.0))
    assert found["rows"]["kept"] == 0
    assert found["cost_per_kept_row"] is None
    assert report_lines(found)[0] == "0 rows kept, 0 dropped: 0 made"


def test_lengths_are_of_all_turns_together():
    lengths = Lengths()
    lengths.add(chat("four", "sixsix"))
    lengths.add(chat("水水", ""))
    # By hand: 4 × 0.27 + 1 → 2 and 6 × 0.27 + 1 → 2 tokens; 2 × 0.7 + 1 → 2 and 1.
    assert lengths.as_json() == {"rows": 2, "chars_median": 2, "chars_p95": 10, "tokens_median": 3, "tokens_p95": 4}


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60), st.sampled_from([0.5, 0.95]))
def test_a_quantile_is_the_least_value_that_enough_others_do_not_exceed(values, part):
    found = quantile(array("I", values), part)
    assert sum(value <= found for value in values) >= part * len(values) - 1e-9
    assert sum(value < found for value in values) < part * len(values)


def sample_of(*records: Record) -> Sample:
    sample = Sample()
    for record in records:
        sample.add(record)
    return sample


def test_distinct_shares_are_worked_out_by_hand():
    found = diversity(sample_of(chat("a b a b", "a b a b")), sample_of(chat("a b c d", "e f g h")))
    # Kept: 2 different words of 8; 2 pairs of 6 (ab, ba); 2 threes of 4 (aba, bab). Seeds: all are different.
    assert [found["kept"][f"distinct_{n}"] for n in (1, 2, 3)] == [0.25, 0.3333, 0.5]
    assert [found["seeds"][f"distinct_{n}"] for n in (1, 2, 3)] == [1.0, 1.0, 1.0]
    assert found["tokens_compared"] == 8


def test_more_rows_of_one_kind_are_not_less_varied_for_it():
    few, many = (
        [chat(f"w{n} x{n} y{n}", "end") for n in range(10)],
        [chat(f"w{n} x{n} y{n}", "end") for n in range(300)],
    )
    found = diversity(sample_of(*many), sample_of(*few))
    assert found["tokens_compared"] == 40
    assert found["kept"]["distinct_1"] == found["seeds"]["distinct_1"] == 31 / 40


def test_rows_that_are_alike_are_a_family():
    one = "the ferry leaves the upper landing at eight and takes forty minutes to the island"
    rows = [
        chat(one, "yes"),
        chat(one + " today", "yes"),
        chat(one + " today again", "yes"),
        chat("what is tea", "a drink"),
    ]
    found = diversity(sample_of(*rows), sample_of())["kept"]
    assert (found["families"], found["rows_in_families"], found["share_in_families"], found["rows_per_family"]) == (
        1,
        3,
        0.75,
        3.0,
    )
    assert diversity(sample_of(*rows), sample_of())["seeds"]["families"] == 0


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("ab 水", max_size=12), max_size=30))
def test_shares_lie_between_none_and_all(texts):
    found = diversity(sample_of(*(TextRecord(text) for text in texts)), sample_of(TextRecord("a b a")))
    for name in ("kept", "seeds"):
        shares = [found[name][f"distinct_{n}"] for n in (1, 2, 3)]
        assert all(value is None or 0 < value <= 1 for value in shares)
        assert found[name]["rows_in_families"] <= found[name]["rows_looked_at"]
        assert found[name]["families"] * 2 <= found[name]["rows_in_families"]


def test_a_sample_does_not_grow_with_the_rows():
    sample = sample_of(*(TextRecord(f"row {n}") for n in range(SAMPLE + 600)))
    rows = sample.rows()
    assert (len(rows), sample.num_rows) == (SAMPLE, SAMPLE + 600)
    last = sample_of(*(TextRecord(f"row {n}") for n in range(SAMPLE + 600))).rows()
    assert all((a[0] == b[0]).all() for a, b in zip(rows, last, strict=True))


def test_the_report_is_json():
    found = report_of(
        judged("a?", "b."), judged("", "", verdict=Verdict("empty", "x")), seeds=(TextRecord("t"),)
    ).as_json()
    assert orjson.loads(orjson.dumps(found)) == found


def test_the_terminal_gets_the_figures(capfdbinary):
    figures = Figures(
        calls=5, answered=3, from_store=1, failed={"refused": 1}, prompt_tokens=1000, completion_tokens=500,
        cost=0.0031, seconds=3.2, concurrency=4,
    )  # fmt: skip
    show(
        report_of(judged("a?", "b."), judged("水?", "d.", verdict=DROPPED), asked=3, seeds=(chat("q?"),)).as_json(
            figures
        )
    )
    lines = capfdbinary.readouterr().out.decode().splitlines()
    assert lines[0] == "1 row kept, 1 dropped: 2 made of 1 seed (3 asked for)"
    assert "expand      3     2     1  50.0%" in lines
    assert "         水? → d." in lines
    assert (
        "5 calls: 3 answered, 1 from the store, 1 failed (1 refused); 1,000 tokens in, 500 out; 3.2 s, up to 4 at once"
        in lines
    )
    assert lines[-1] == "cost: 0.0031 USD, 0.0031 USD a kept row"


@pytest.mark.parametrize(
    ("amount", "spelled"),
    [(0.0, "0.00 CNY"), (1234.5, "1,234.50 CNY"), (0.0123, "0.012 CNY"), (0.000012, "1.2e-05 CNY")],
)
def test_small_amounts_are_seen(amount, spelled):
    assert money(amount, "CNY") == spelled


@pytest.mark.parametrize(
    ("part", "spelled"), [(None, "-"), (0, "0%"), (1, "100%"), (0.9999, "99.9%"), (0.00001, "0.1%")]
)
def test_shares_are_never_rounded_to_none_or_all(part, spelled):
    assert share(part) == spelled
