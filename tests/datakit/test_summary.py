"""What people are told: a short summary on stderr, one object on stdout, and nothing that can drive a terminal."""

import json
import os
from pathlib import Path

import orjson
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


def test_shards_are_told_by_the_first_and_the_last_of_them():
    names = tuple(Path(f"x-0000{i}.jsonl") for i in range(6))
    assert summary_lines(Outcome("convert", outputs=names))[-1] == "  written: 6 files, x-00000.jsonl to x-00005.jsonl"
    assert summary_lines(Outcome("convert", outputs=names[:2]))[-2:] == [
        "  written: x-00000.jsonl", "  written: x-00001.jsonl"
    ]  # fmt: skip


def test_names_that_are_no_utf_8_are_still_json():
    outcome = Outcome("convert", outputs=(Path(os.fsdecode(b"caf\xe9.jsonl")), "s3://b/a.jsonl"))
    assert orjson.loads(orjson.dumps(outcome.as_json()))["outputs"] == ["caf\ufffd.jsonl", "s3://b/a.jsonl"]


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
