"""The command: tables or one JSON object on stdout, files whole with their manifests, faults in plain words."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from datakit.stats.report import Targets, check_targets, finish_stats
from datakit.stats.summary import summarize
from tests.conftest import REPOSITORY
from tests.datakit.stats.conftest import measure

QA = {"instruction": "Why?", "output": "Because."}


def test_plot_and_page_are_written_and_the_page_needs_nothing_beside_it(tmp_path, model, write_rows, capsys):
    found = measure([write_rows("rows.jsonl", QA, {"instruction": "<b>", "output": None})], model)
    found = replace(found, tokenizer="<i>mine")
    targets = Targets(tmp_path / "l.png", tmp_path / "l.html")
    finish_stats(found, targets, options={"stage": "sft"}, json=False, quiet=False)
    assert (tmp_path / "l.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "l.html").read_text()
    assert "data:image/png;base64," in page
    assert "http" not in page
    assert "text belongs here, not null" in page
    assert "&lt;i&gt;mine" in page
    out = capsys.readouterr().out
    assert f"Suggested cutoff_len: {summarize(found)['suggested_cutoff_len']}" in out


def test_each_file_that_is_written_has_a_manifest_that_names_its_inputs(datakit, model, write_rows):
    write_rows("rows.jsonl", QA)
    ran = datakit(
        "stats", "rows.jsonl", "--model", model, "--template", "chatml", "--html", "l.html", "--plot", "l.png"
    )
    assert ran.code == 0
    for name in ("l.html", "l.png"):
        manifest = json.loads(Path(f"{name}.manifest.json").read_text())
        assert manifest["command"] == "stats"
        assert manifest["options"]["template"] == "chatml"
        assert [(i["file"], i["rows"]) for i in manifest["inputs"]] == [("rows.jsonl", 1)]
        assert [o["file"] for o in manifest["outputs"]] == [name]


@pytest.mark.parametrize(
    ("plot", "told"),
    [(".", "a file is needed"), ("l.jpg", r"written as \.png"), ("file/l.png", "nothing can be written in .*file")],
)
def test_a_plot_that_could_not_be_written_is_refused_first(plot, told, tmp_path, monkeypatch):
    from registry.errors import UsageError

    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(UsageError, match=told):
        check_targets(Targets(plot=Path(plot)))


def test_the_command_prints_one_json_object_with_the_promised_fields(datakit, model, write_rows):
    write_rows("rows.jsonl", QA)
    summary = datakit("stats", "rows.jsonl", "--model", model, "--template", "chatml", "--json").json
    promised = {
        "rows", "tokens", "trained_tokens", "percentiles", "mean", "suggested_cutoff_len", "at_suggestion", "candidates",
        "template", "tokenizer", "backend",
    }  # fmt: skip
    at_suggestion = {
        "rows_truncated", "tokens_lost", "trained_tokens_lost", "padding_waste", "packing_efficiency", "steps_per_epoch",
    }  # fmt: skip
    assert promised <= summary.keys()
    assert at_suggestion <= summary["at_suggestion"].keys()
    assert summary["model_limit"] == 256


def test_the_suggestion_goes_into_a_config_and_the_old_value_is_told(datakit, model, write_rows, tmp_path):
    write_rows("rows.jsonl", QA)
    (tmp_path / "run.yaml").write_text("# mine\ncutoff_len: 4096\nstage: sft\n")
    ran = datakit("stats", "rows.jsonl", "--model", model, "--template", "chatml", "--write-config", "run.yaml")
    assert ran.code == 0
    found = summarize(measure([tmp_path / "rows.jsonl"], model))["suggested_cutoff_len"]
    assert (tmp_path / "run.yaml").read_text() == f"# mine\ncutoff_len: {found}\nstage: sft\n"
    assert f"cutoff_len: {found}, was 4096 in run.yaml" in ran.err


def test_a_config_that_is_no_mapping_ends_the_command_before_anything_is_measured(datakit, model, tmp_path):
    (tmp_path / "run.yaml").write_text("- a\n")
    ran = datakit("stats", "nowhere.jsonl", "--model", model, "--write-config", "run.yaml")
    assert ran.code == 2
    assert "a config is a mapping" in ran.err


def test_a_sample_is_told_in_words_and_with_bands(datakit, model, write_rows):
    write_rows("rows.jsonl", *[{"instruction": "q" * (n % 40), "output": "a"} for n in range(400)])
    ran = datakit("stats", "rows.jsonl", "--model", model, "--template", "chatml", "--sample", "100", "--seed", "7")
    assert ran.out.startswith("about 400 rows, ")
    assert "An estimate from 100 rows drawn at random (seed 7) of 400" in ran.out
    assert "with 95% confidence" in ran.out


def test_stdin_is_measured(datakit, model, monkeypatch, tmp_path):
    (tmp_path / "in.jsonl").write_text(json.dumps(QA) + "\n")
    with (tmp_path / "in.jsonl").open() as handle:
        monkeypatch.setattr(sys, "stdin", handle)
        summary = datakit("stats", "-", "--model", model, "--template", "chatml", "--json").json
    assert (summary["rows"], summary["sources"][0]["source"]) == (1, "-")


def test_where_stdout_takes_ascii_only_nothing_else_is_printed(model, write_rows):
    rows = write_rows("rows.jsonl", *[{"instruction": "q" * n, "output": "a"} for n in range(1, 99)])
    done = run_cli("stats", rows, "--model", model, "--template", "chatml", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert "<- 1" in done.stdout


def run_cli(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "datakit.cli", *map(str, arguments)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
    )  # fmt: skip


def test_a_wrong_folder_ends_with_2(datakit, write_rows):
    write_rows("rows.jsonl", QA)
    ran = datakit("stats", "rows.jsonl", "--model", "nowhere")
    assert ran.code == 2
    assert "no such folder" in ran.err


def test_answers_that_are_all_judged_alike_are_warned_of(datakit, model, write_rows):
    write_rows("rows.jsonl", {**QA, "kto_tag": True})
    ran = datakit("stats", "rows.jsonl", "--model", model, "--template", "chatml", "--stage", "kto")
    assert "all answers are judged alike" in ran.err
    assert "1 desirable, 0 undesirable" in " ".join(ran.out.split())


def test_ctrl_c_ends_with_130_and_no_traceback(model):
    words = [sys.executable, "-m", "datakit.cli", "stats", "-", "--model", str(model), "--template", "chatml"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(words, env=environment, text=True, **pipes) as running:
        time.sleep(1.5)  # it waits for rows
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "Traceback" not in err
