"""What people are told: a short summary on stderr, one object on stdout, and nothing that can drive a terminal."""

import json
from pathlib import Path

import pytest
import typer

from datakit.outcome import Outcome
from datakit.summary import finish, summary_lines, visible, with_progress
from registry.command import set_up_logging

DONE = Outcome(
    "convert",
    1200,
    1197,
    {"b: rare": 1, "a: frequent": 2},
    (Path("o.jsonl"),),
    Path("o.jsonl.rejects.jsonl"),
    seconds=2.0,
)


def test_the_summary_counts_rows_by_reason_and_names_the_files():
    assert summary_lines(DONE) == [
        "convert: 1,200 rows in, 1,197 out, 3 rejected  (2.0 s, 600 rows/s)",
        "         2  a: frequent",
        "         1  b: rare",
        "  written: o.jsonl",
        "  rejects: o.jsonl.rejects.jsonl",
    ]


def test_many_reasons_are_summed_up_at_the_end():
    lines = summary_lines(Outcome("convert", 20, 0, {f"r{i}": 1 for i in range(20)}))
    assert len(lines) == 14
    assert lines[-1] == "         8  for 8 other reasons"


def test_json_is_one_object_on_stdout_and_the_exit_code_is_passed_on(capfd):
    set_up_logging(quiet=False)
    with pytest.raises(typer.Exit) as end:
        finish(Outcome("validate", rows_in=1, exit_code=1, details={"faults": []}), json=True, quiet=False)
    out, err = capfd.readouterr()
    assert end.value.exit_code == 1
    assert json.loads(out)["faults"] == []
    assert err == ""


def test_quiet_still_tells_that_rows_were_rejected(capfd):
    set_up_logging(quiet=True)
    finish(DONE, json=False, quiet=True)
    assert capfd.readouterr() == ("", "warning: convert: 3 of 1,200 rows rejected\n")


def test_rows_pass_through_progress_unchanged():
    assert list(with_progress(iter([3, 1, 2]), "x")) == [3, 1, 2]


def test_control_characters_and_half_characters_are_spelled_out():
    assert visible("a\x1b[31mb\tc\nd\ud800\r") == "a\\x1b[31mb\tc\nd\\ud800\\r"
