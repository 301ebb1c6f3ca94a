"""datakit run: what runs, what is skipped and why, what stops it, and what is left behind."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakit.outcome import Outcome
from datakit.pipeline import process, run_pipeline
from datakit.pipeline.board import Line, plain_line, print_final
from datakit.pipeline.process import plain_lines
from datakit.pipeline.spec import Step
from datakit.pipeline.state import Fingerprint, Record, Result, match_steps
from datakit.pipeline.steps import STEPS
from datakit.pipeline.things import Hashes, Thing, makes, thing
from datakit.pipeline.trainkit_args import inputs_of, outputs_of
from registry.errors import Faults, UsageError

ROOT = Path(__file__).parents[2]

# What stands in for trainkit: a process that keeps the same bargain at the command line.
FAKE_TRAINKIT = """
import json, pathlib, signal, sys, time, yaml
verb, *args = sys.argv[1:]
with open("calls.jsonl", "a") as calls:
    calls.write(json.dumps([verb, *args]) + "\\n")
words = [a for a in args if not a.startswith("-") and "=" not in a]
config = yaml.safe_load(open(words[0])) if words and words[0].endswith(".yaml") else {}
config |= dict(a.split("=", 1) for a in args if "=" in a)
print("\\x1b[32mloading\\x1b[0m\\rstep 1\\rstep 2", file=sys.stderr, flush=True)
if "fail" in config:
    print("\\n".join(f"detail {n}" for n in range(30)), "error: no such key", sep="\\n", file=sys.stderr)
    sys.exit(int(config["fail"]))
if "wait" in config:
    signals = []
    signal.signal(signal.SIGINT, lambda number, frame: signals.append(number))
    pathlib.Path("begun").touch()
    while not signals:
        time.sleep(0.02)
    time.sleep(0.3)
    pathlib.Path("stopped").write_text(f"by {len(signals)} SIGINT")
    if config["wait"] != "0":
        sys.exit(int(config["wait"]))
if verb == "run":
    out = pathlib.Path(config["output_dir"])
    if out.exists() and "--fresh" not in args:
        sys.exit("the output folder is not empty")
    (out / "checkpoint-1").mkdir(parents=True, exist_ok=True)
    (out / "model.txt").write_text(json.dumps(config))
    print(json.dumps({"rows_in": 5, "rows_out": 3, "rejected": {"too long": 2}, "outputs": [str(out)], "first_loss": 2.0, "last_loss": 1.0}))
elif verb == "chat":
    print("I am " + pathlib.Path(words[0], "model.txt").read_text())
elif verb == "init":
    pathlib.Path(words[0]).mkdir(parents=True, exist_ok="--force" in args)
    pathlib.Path(words[0], "model.txt").write_text("new")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with two good rows and a faulty one, and a trainkit that only pretends."""
    rows = [
        {"question": "Why?", "answer": "Because."},
        {"question": "How?", "answer": "So."},
        {"question": "When?", "answer": None},
    ]
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "fake_trainkit.py").write_text(FAKE_TRAINKIT)
    monkeypatch.setattr(process, "TRAINKIT", [sys.executable, str(tmp_path / "fake_trainkit.py")])
    return tmp_path


ROAD = """
    name: road
    vars: {who: Ada}
    steps:
      - name: convert raw
        convert: {src: raw.jsonl, out: work/rows.jsonl, to: alpaca, map: {instruction: question, output: answer}}
      - validate: {src: work/rows.jsonl, clean: work/clean.jsonl}
      - register: {src: work/clean.jsonl, name: faq, dataset-dir: work, replace: true}
      - name: sft
        trainkit: run
        args: [sft.yaml, "output_dir=models/${who}"]
      - name: ask
        trainkit: chat
        args: ["models/${who}", --prompt, "Who are you?"]
        show: after training
    look_at:
      work/clean.jsonl: the rows
      work/nothing.png: a picture
"""


def write(folder, text, name="p.yaml"):
    (folder / name).write_text(textwrap.dedent(text))
    return folder / name


def road(folder, text=ROAD):
    (folder / "sft.yaml").write_text("dataset: faq\ndataset_dir: work\nmodel_name_or_path: org/base\n")
    return write(folder, text)


def run(path, **options):
    return run_pipeline(path, **{"from_step": None, "dry_run": False, "show": False, "quiet": True, **options})


def states(result):
    return {line.name: line.state for line in result.lines}


def reasons(result):
    return {line.name: line.why for line in result.lines}


def calls(folder):
    return [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]


# ------------------------------------------------------------------------------------------------ running and skipping


def test_all_steps_run_in_order_and_their_rows_are_counted(folder):
    result = run(road(folder))
    assert result.exit_code == 0
    found = {line.name: (line.result.rows_in, line.result.rows_out, line.result.num_rejected) for line in result.lines}
    assert found == {
        "convert raw": (3, 2, 1),
        "validate 2": (2, 2, 0),
        "register 3": (2, 2, 0),
        "sft": (5, 3, 2),
        "ask": (None, None, None),
    }
    assert calls(folder) == [
        ["run", "sft.yaml", "output_dir=models/Ada", "--json"],
        ["chat", "models/Ada", "--prompt", "Who are you?"],
    ]
    assert json.loads(result.shown["after training"].removeprefix("I am "))["output_dir"] == "models/Ada"


def test_a_second_run_skips_everything_and_shows_the_same_answer(folder):
    first = run(road(folder))
    second = run(folder / "p.yaml")
    assert set(states(second).values()) == {"skipped"}
    assert second.shown == first.shown
    assert [line.result for line in second.lines] == [line.result for line in first.lines]
    assert len(calls(folder)) == 2


def test_new_rows_run_what_depends_on_them_and_nothing_else(folder):
    run(road(folder))
    with (folder / "raw.jsonl").open("a") as handle:
        handle.write('{"question": "Where?", "answer": "Here."}\n')
    result = run(folder / "p.yaml")
    assert reasons(result)["convert raw"] == "raw.jsonl changed"
    assert reasons(result)["sft"].startswith("work/clean.jsonl changed")
    assert calls(folder)[2] == ["run", "sft.yaml", "output_dir=models/Ada", "--fresh", "--json"]
    assert states(result)["ask"] == "skipped"  # the stand-in makes the same model again


def test_a_rejected_row_more_changes_no_clean_row_so_training_is_not_repeated(folder):
    run(road(folder))
    with (folder / "raw.jsonl").open("a") as handle:
        handle.write('{"question": 7, "answer": "x"}\n')
    assert list(states(run(folder / "p.yaml")).values()) == ["done", "skipped", "skipped", "skipped", "skipped"]


def test_touching_a_file_without_changing_it_runs_nothing(folder):
    run(road(folder))
    os.utime(folder / "raw.jsonl", ns=(1, 1))
    assert set(states(run(folder / "p.yaml")).values()) == {"skipped"}


@pytest.mark.parametrize(
    ("change", "step", "why"),
    [
        (lambda f: (f / "work" / "clean.jsonl").unlink(), "validate 2", "output missing: work/clean.jsonl"),
        (lambda f: (f / "work" / "clean.jsonl").write_text("{}\n"), "validate 2", "output changed: work/clean.jsonl"),
        (
            lambda f: road(f, ROAD.replace("instruction: question", "instruction: answer")),
            "convert raw",
            "options changed",
        ),
        (lambda f: (f / "sft.yaml").write_text("dataset: faq\ndataset_dir: work\n"), "sft", "sft.yaml changed"),
        (lambda f: (f / "models" / "Ada" / "model.txt").write_text("other"), "sft", "output changed: models/Ada"),
        (
            lambda f: (f / "work" / "dataset_info.json").unlink(),
            "register 3",
            "output missing: work/dataset_info.json (faq)",
        ),
    ],
)
def test_a_dry_run_says_why_a_step_would_run_and_changes_nothing(folder, change, step, why):
    run(road(folder))
    change(folder)
    before = sorted((p, p.stat().st_mtime_ns) for p in folder.rglob("*"))
    result = run(folder / "p.yaml", dry_run=True)
    assert (states(result)[step], reasons(result)[step]) == ("would run", why)
    assert before == sorted((p, p.stat().st_mtime_ns) for p in folder.rglob("*"))


def test_a_dry_run_of_a_new_pipeline_makes_no_folder(folder):
    result = run(road(folder), dry_run=True)
    assert set(reasons(result).values()) == {"never ran"}
    assert not (folder / ".datakit").exists()
    assert not (folder / "work").exists()


def test_checkpoints_and_logs_that_come_and_go_leave_a_model_as_it_is(folder):
    run(road(folder))
    (folder / "models" / "Ada" / "checkpoint-2").mkdir()
    (folder / "models" / "Ada" / "checkpoint-2" / "x").touch()
    (folder / "models" / "Ada" / "trainer_log.jsonl").touch()
    assert set(states(run(folder / "p.yaml")).values()) == {"skipped"}


def test_from_runs_that_step_and_all_after_it(folder):
    run(road(folder))
    result = run(folder / "p.yaml", from_step="register 3")
    assert list(states(result).values()) == ["skipped", "skipped", "done", "done", "done"]
    assert reasons(result)["sft"] == "--from"


def test_from_an_unknown_step_names_the_nearest(folder):
    with pytest.raises(UsageError, match='there is no step "converted raw"') as caught:
        run(road(folder), from_step="converted raw")
    assert 'Did you mean "convert raw"' in str(caught.value)


def test_two_registered_datasets_share_a_file_without_waking_each_other(folder):
    text = """
        steps:
          - convert: {src: raw.jsonl, out: a.jsonl, map: {instruction: question, output: answer}, to: alpaca}
          - register: {src: a.jsonl, name: one, dataset_dir: data}
          - register: {src: a.jsonl, name: two, dataset_dir: data}
        """
    run(write(folder, text))
    assert set(states(run(folder / "p.yaml")).values()) == {"skipped"}


def test_a_renamed_step_and_one_that_moved_keep_their_records(folder):
    run(road(folder))
    road(folder, ROAD.replace("name: sft", "name: tune").replace("- validate:", "- name: check\n        validate:"))
    assert set(states(run(folder / "p.yaml")).values()) == {"skipped"}


def test_a_state_of_another_version_is_not_used_and_said(folder, caplog):
    run(road(folder))
    state = folder / ".datakit" / "road" / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"format_version": 0}))
    result = run(folder / "p.yaml", dry_run=True)
    assert set(reasons(result).values()) == {"never ran"}
    state.write_text("{")
    assert set(reasons(run(folder / "p.yaml", dry_run=True)).values()) == {"never ran"}


def test_the_process_ends_where_it_began(folder, monkeypatch):
    monkeypatch.chdir("/")
    run(road(folder))
    assert Path.cwd() == Path("/")


# -------------------------------------------------------------------------------------------------- steps that stop it


def test_validate_goes_on_with_the_clean_rows(folder):
    text = """
        steps:
          - validate: {src: rows.jsonl, clean: clean.jsonl}
          - convert: {src: clean.jsonl, out: out.jsonl}
        """
    (folder / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n{"instruction": "a", "output": ""}\n')
    result = run(write(folder, text))
    assert result.exit_code == 0
    assert (folder / "out.jsonl").read_text() == '{"instruction":"a","output":"b"}\n'


@pytest.mark.parametrize("options", ["clean: clean.jsonl, strict: true", "stage: sft"])
def test_validate_stops_where_it_is_strict_or_leaves_no_clean_rows(folder, options, capsys):
    (folder / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n{"instruction": "a", "output": ""}\n')
    path = write(
        folder,
        f"steps:\n  - validate: {{src: rows.jsonl, {options}}}\n  - convert: {{src: rows.jsonl, out: out.jsonl}}\n",
    )
    result = run(path)
    assert result.exit_code == 1
    assert states(result) == {"validate 1": "failed", "convert 2": "waiting"}
    assert "1 of 2 rows have faults" in capsys.readouterr().err
    assert not (folder / "out.jsonl").exists()


@pytest.mark.parametrize("code", [2, 3, 4])
def test_a_failing_process_stops_the_pipeline_with_its_code_and_the_end_of_its_log(folder, code, capsys):
    result = run(road(folder, ROAD.replace("args: [sft.yaml,", f"args: [sft.yaml, fail={code},")))
    told = capsys.readouterr().err
    assert result.exit_code == code
    assert list(states(result).values()) == ["done", "done", "done", "failed", "waiting"]
    assert "error: no such key" in told
    assert "detail 16" in told
    assert "detail 15" not in told  # the last 15 lines
    assert "sft.log" in told
    assert ("Go on where it stopped" in told) == (code == 3)
    assert f"datakit run {folder / 'p.yaml'}" in told


def test_what_earlier_steps_made_is_intact_and_not_made_again(folder):
    run(road(folder, ROAD.replace("args: [sft.yaml,", "args: [sft.yaml, fail=2,")))
    rows = (folder / "work" / "clean.jsonl").read_bytes()
    result = run(road(folder))
    assert list(states(result).values()) == ["skipped", "skipped", "skipped", "done", "done"]
    assert reasons(result)["sft"] == "did not finish last time, and options changed"
    assert (folder / "work" / "clean.jsonl").read_bytes() == rows


def test_an_unfinished_training_on_the_same_inputs_is_not_started_afresh(folder):
    run(road(folder, ROAD.replace("args: [sft.yaml,", "args: [sft.yaml, fail=3,")))
    run(folder / "p.yaml")
    assert all("--fresh" not in call for call in calls(folder))


def test_a_training_that_finished_as_the_pipeline_was_killed_is_made_anew(folder):
    run(road(folder, ROAD.replace("args: [sft.yaml,", "args: [sft.yaml, fail=3,")))
    (folder / "models" / "Ada").mkdir(parents=True)
    (folder / "models" / "Ada" / "run.json").write_text('{"status": "finished"}')
    run(folder / "p.yaml")
    assert ["--fresh" in call for call in calls(folder)] == [False, True]


def test_a_folder_that_no_step_of_ours_made_is_never_overwritten(folder):
    (folder / "models" / "Ada").mkdir(parents=True)
    (folder / "models" / "Ada" / "precious.txt").touch()
    assert run(road(folder)).exit_code == 1
    (folder / "sft.yaml").write_text("dataset: faq\ndataset_dir: work\ncutoff_len: 64\n")
    assert run(folder / "p.yaml").exit_code == 1
    assert all("--fresh" not in call for call in calls(folder))


def test_an_error_in_a_step_of_ours_is_told_with_its_code(folder, capsys):
    (folder / "empty.jsonl").write_text("")
    result = run(write(folder, "steps:\n  - convert: {src: empty.jsonl, out: out.jsonl}\n"))
    assert result.exit_code == 2
    assert "the file is empty" in capsys.readouterr().err


def test_a_step_that_breaks_in_the_middle_leaves_earlier_outputs(folder, monkeypatch, capsys):
    def full(options):
        raise OSError(28, "No space left on device", "work/rows.jsonl")

    run(road(folder))
    monkeypatch.setitem(STEPS, "validate", full)
    before = (folder / "work" / "clean.jsonl").read_bytes()
    result = run(folder / "p.yaml", from_step="validate 2")
    assert result.exit_code == 3
    assert "the disk is full" in capsys.readouterr().err
    assert (folder / "work" / "clean.jsonl").read_bytes() == before


def test_warnings_of_a_step_reach_people_and_its_log(folder, monkeypatch, capsys):
    import logging

    def warn(options):
        logging.getLogger("tunekit").warning("columns are odd")
        logging.getLogger("tunekit").info("by the way")
        print("a progress bar", file=sys.stderr)
        return Outcome("validate", 2, 2)

    monkeypatch.setitem(STEPS, "validate", warn)
    run(write(folder, "steps:\n  - validate: {src: raw.jsonl}\n"))
    told = capsys.readouterr().err
    assert "warning: columns are odd" in told
    assert "by the way" not in told
    assert "progress bar" not in told
    assert (folder / ".datakit" / "p" / "validate-1.log").read_text() == "columns are odd\nby the way\na progress bar\n"


# --------------------------------------------------------------------------------------------------- the file's faults


def faults(folder, text):
    with pytest.raises(Faults) as caught:
        run(write(folder, text))
    return "\n".join(caught.value.faults)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("steps:\n  - convrt: {src: raw.jsonl, out: a.jsonl}", 'Did you mean "convert"?'),
        (
            "steps:\n  - convert: {src: raw.jsonl, out: a.jsonl, form: auto}",
            'convert has no option "form". Did you mean "from"',
        ),
        ("steps:\n  - convert: {src: raw.jsonl, out: a.jsonl}\n    show: x", 'unknown key "show"'),
        (
            "steps:\n  - convert: {src: raw.jsonl, out: a.jsonl}\n    validate: {src: raw.jsonl}",
            "it has 2 verbs (convert, validate)",
        ),
        ("steps:\n  - convert: {src: raw.jsonl}", "convert needs out"),
        (
            "steps:\n  - convert: {src: raw.json, out: a.jsonl}",
            "there is no raw.json, and no earlier step makes it. Nearest: raw.jsonl",
        ),
        ("steps:\n  - validate: {src: a.jsonl}\n  - convert: {src: raw.jsonl, out: a.jsonl}", "there is no a.jsonl"),
        (
            "steps:\n  - convert: {src: raw.jsonl, out: a.jsonl, to: alpca}",
            '"to": "alpca" is not known. Did you mean "alpaca"?',
        ),
        ("steps:\n  - convert: {src: raw.jsonl, out: a.jsonl, limit: 0}", "a whole number above 0 belongs here, not 0"),
        ("steps:\n  - convert: {src: raw.jsonl, out: a.jsonl, strict: maybe}", "true or false belongs here"),
        ("steps:\n  - convert: {src: raw.jsonl, out: a.jsonl, fill: {on: yes}}", "put it in quotes"),
        ("steps:\n  - convert: {src: raw.jsonl, out: '-'}", "steps read and write files"),
        ("steps:\n  - stats: {src: raw.jsonl, model: m}", "there is no m, and no earlier step makes it"),
        ("steps:\n  - stats: {model: .}", "stats needs src or dataset"),
        ("steps:\n  - stats: {src: raw.jsonl, model: ., template: qwem}", 'Did you mean "qwen"'),
        (
            "steps:\n  - stats: {dataset: fqa, dataset_dir: data, model: .}",
            'dataset "fqa" is not in data/dataset_info.json',
        ),
        ("steps:\n  - trainkit: rum\n    args: [a.yaml]", 'pipelines do not know "trainkit rum". Did you mean "run"?'),
        ("steps:\n  - trainkit: run\n    args: [a.yaml]", "there is no a.yaml"),
        ("steps:\n  - trainkit: run", "trainkit run needs a config"),
        ("steps:\n  - trainkit: chat\n    args: [.]", 'needs --prompt, "QUESTION"'),
        ("steps:\n  - trainkit: init\n    args: [m]", "needs --data"),
        ("steps:\n  - trainkit: run\n    args: run.yaml", "must be a list of texts and numbers"),
        (
            "steps:\n  - validate: {src: '${rows}'}\nvars: {row: raw.jsonl}",
            '${rows} is not among vars (there: row). Did you mean "row"?',
        ),
        (
            "steps:\n  - name: a\n    validate: {src: raw.jsonl}\n  - name: a\n    validate: {src: raw.jsonl}",
            'the name "a" is taken by step 1',
        ),
        ("steps: []", "there are no steps"),
        ("name: x", "there are no steps"),
        ("steps:\n  - validate: {src: raw.jsonl}\nlookat: {}", 'unknown key "lookat". Did you mean "look_at"?'),
    ],
)
def test_a_fault_of_the_file_is_told_before_anything_runs(folder, text, told):
    assert told in faults(folder, text)
    assert not (folder / ".datakit").exists()


def test_all_faults_are_told_together(folder):
    told = faults(
        folder, "steps:\n  - convrt: {}\n  - convert: {src: nowhere.jsonl, out: a.jsonl, limit: many}\nnmae: x\n"
    )
    assert len(told.splitlines()) == 4


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("steps: [", r"p\.yaml, line 1: not YAML"),
        ("- a\n- b\n", "a pipeline must be a mapping"),
        ("", "a pipeline must be a mapping"),
        ("steps:\n  - validate: {src: a, src: b}\n", r'line 2: not YAML: the key "src" stands twice'),
    ],
)
def test_a_file_that_is_no_pipeline_is_refused_with_the_line(folder, text, told):
    with pytest.raises(UsageError, match=told):
        run(write(folder, text))


def test_a_missing_pipeline_names_the_nearest_file(folder):
    write(folder, "steps: []", "quickstart.yaml")
    with pytest.raises(UsageError, match="no such file") as caught:
        run(folder / "quikstart.yaml")
    assert "Near it: quickstart.yaml" in str(caught.value)
    with pytest.raises(UsageError, match="this is a folder"):
        run(folder)
    with pytest.raises(UsageError, match="there is no folder"):
        run(folder / "nowhere" / "p.yaml")


def test_an_undefined_dataset_of_a_later_training_is_found_before_the_first_step(folder):
    path = road(folder, ROAD.replace("name: faq", "name: fqa"))
    with pytest.raises(Faults, match=r'step 4 \("sft"\): dataset "faq" is not in work/dataset_info.json'):
        run(path)


def test_two_runs_at_once_are_refused(folder):
    from filelock import FileLock

    path = road(folder)
    (folder / ".datakit" / "road").mkdir(parents=True)
    with (
        FileLock(folder / ".datakit" / "road" / "lock"),
        pytest.raises(UsageError, match="another run of this pipeline"),
    ):
        run(path)


# --------------------------------------------------------------------------------------------------- what people see

# The command as users start it, with the stand-in for trainkit.
COMMAND = """
import os, sys
from datakit.pipeline import process
process.TRAINKIT = [sys.executable, os.environ["FAKE_TRAINKIT"]]
from datakit.cli import main
sys.argv[0] = "datakit"
main()
"""


def command(folder, *args, cwd=None, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FAKE_TRAINKIT": str(folder / "fake_trainkit.py")}
    words = [sys.executable, "-c", COMMAND, "run", *args]
    return subprocess.Popen(
        words, cwd=cwd or folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def test_tables_answers_and_files_to_look_at_come_on_stdout_and_a_line_a_step_on_stderr(folder):
    road(folder)
    out, err = command(folder, "p.yaml").communicate(timeout=60)
    assert re.search(r"convert raw +done +3 +2 +1", out)
    assert re.search(r"sft +done +5 +3 +2 +\d+\.\d +loss 2 → 1", out)
    assert re.search(r"after training +I am", out)
    assert re.search(r"work/clean\.jsonl +the rows", out)
    assert re.search(r"work/nothing\.png +a picture \(not there\)", out)
    assert "validate 2: done · 2 rows in, 2 out, 0 rejected" in err


def test_json_is_one_object_and_quiet_leaves_stderr_empty(folder):
    road(folder)
    out, err = command(folder, "p.yaml", "--json", "--quiet").communicate(timeout=60)
    told = json.loads(out)
    assert told["pipeline"] == "road"
    assert told["steps"][0] == {
        "name": "convert raw", "verb": "convert", "state": "done", "why": "never ran", "rows_in": 3, "rows_out": 2,
        "rejected": {"answer: text belongs here, not null": 1}, "seconds": told["steps"][0]["seconds"],
        "outputs": ["work/rows.jsonl", "work/rows.jsonl.rejects.jsonl"], "note": "",
    }  # fmt: skip
    assert told["steps"][3]["outputs"] == ["models/Ada"]
    assert list(told["shown"]) == ["after training"]
    assert err == ""


def test_paths_are_taken_from_the_pipelines_folder_and_told_from_the_users(folder):
    road(folder)
    out, err = command(folder, f"{folder.name}/p.yaml", cwd=folder.parent).communicate(timeout=60)
    assert f"{folder.name}/work/clean.jsonl" in out
    assert (folder / "models" / "Ada").is_dir()
    road(folder, ROAD.replace("args: [sft.yaml,", "args: [sft.yaml, fail=2,"))
    _, err = command(folder, f"{folder.name}/p.yaml", cwd=folder.parent).communicate(timeout=60)
    assert f"Paths in it are from {folder.name}." in err
    assert f"The whole log: {folder.name}/.datakit/road/sft.log" in err
    assert f"datakit run {folder.name}/p.yaml" in err


@pytest.mark.parametrize("ending", [130, 0])
def test_ctrl_c_stops_the_process_with_one_sigint_waits_for_it_and_ends_with_130(folder, ending):
    road(folder, ROAD.replace("args: [sft.yaml,", f"args: [sft.yaml, wait={ending},"))
    running = command(folder, "p.yaml", start_new_session=True)
    deadline = time.monotonic() + 30
    while not (folder / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)  # as the terminal does: all that is in the foreground group
    _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert (folder / "stopped").read_text() == "by 1 SIGINT"
    assert "interrupted" in err
    assert "datakit run p.yaml" in err
    assert "Traceback" not in err
    state = json.loads((folder / ".datakit" / "road" / "state.json").read_text())
    assert {name: record["complete"] for name, record in state["steps"].items()} == {
        "convert raw": True, "validate 2": True, "register 3": True, "sft": ending == 0,
    }  # fmt: skip


def test_a_killed_process_ends_with_3_and_the_signal(folder, capsys):
    (folder / "fake_trainkit.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    result = run(road(folder))
    assert result.exit_code == 3
    assert "was killed by signal 9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "shown"), [("yes", "yes"), ("", "(nothing)"), ("\n \n", "(only spaces and line breaks)")]
)
def test_an_answer_without_words_is_told_as_such(text, shown, capsys):
    print_final([], {"before training": text}, [])
    assert re.search(rf"before training +{re.escape(shown)}", capsys.readouterr().out)


def test_a_finished_step_is_one_plain_line():
    line = Line("sft", "trainkit run", "done", note="loss 2 → 1", result=Result(5, 3, {"too long": 2}, seconds=1.25))
    assert plain_line(line) == "sft: done · 5 rows in, 3 out, 2 rejected · 1.2 s · loss 2 → 1"
    skipped = replace(line, state="skipped", why="nothing changed", note="")
    assert plain_line(skipped) == "sft: skipped (nothing changed) · 5 rows in, 3 out, 2 rejected"


def test_bars_that_redraw_themselves_and_colours_are_plain_lines():
    assert plain_lines(b"\x1b[32mgo\x1b[0m\r10%\r20%\n\n") == ["go", "10%", "20%"]


# ---------------------------------------------------------------------------------------------- what steps read and make


def test_a_training_reads_its_config_models_and_datasets_and_makes_its_output_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sft.yaml").write_text("dataset: faq, chat\nadapter_name_or_path: [a, b]\noutput_dir: out\n")
    Path("data").mkdir()
    Path("data/dataset_info.json").write_text('{"faq": {"file_name": "faq.jsonl"}}')
    args = ["sft.yaml", "model_name_or_path=models/pt", "output_dir=models/sft"]
    assert [one.label for one in inputs_of("run", args)] == [
        "sft.yaml", "models/pt", "a", "b", "data/dataset_info.json (faq)", "data/faq.jsonl", "data/dataset_info.json (chat)",
    ]  # fmt: skip
    assert outputs_of("run", args) == [thing("models/sft")]


def test_flags_and_options_are_told_from_words():
    assert inputs_of("run", ["--fresh", "sft.yaml"]) == [thing("sft.yaml")]
    assert inputs_of("chat", ["models/x", "--greedy", "--prompt", "models/y"]) == [thing("models/x")]
    assert inputs_of("init", ["m", "--data", "a.txt", "--data=b.txt"]) == [
        thing("a.txt", "data"),
        thing("b.txt", "data"),
    ]
    assert outputs_of("init", ["m", "--data", "a.txt"]) == [thing("m")]
    assert outputs_of("encode", ["a.yaml", "-o", "ids.jsonl"]) == [thing("ids.jsonl")]


@pytest.mark.parametrize(
    ("made", "wanted", "expected"),
    [
        ("work/a.jsonl", "work/a.jsonl", True),
        ("work/a.jsonl", "work", True),
        ("work/a.jsonl", "work/*.jsonl", True),
        ("models/base", "models/base/tokenizer.json", True),
        ("work/a.jsonl", "work/b.jsonl", False),
        ("work", "workshop/a.jsonl", False),
    ],
)
def test_an_output_makes_an_input_that_it_is_holds_or_lies_in(made, wanted, expected):
    assert makes(thing(made), thing(wanted)) is expected


@given(st.dictionaries(st.sampled_from(["a", "b", "c/d", "checkpoint-1/x", "run.log"]), st.binary(max_size=4)))
def test_a_folders_hash_is_that_of_its_names_and_contents(tmp_path_factory, content):
    hashes = []
    for _ in range(2):
        folder = tmp_path_factory.mktemp("f")
        for name, data in content.items():
            (folder / name).parent.mkdir(exist_ok=True, parents=True)
            (folder / name).write_bytes(data)
        hashes.append(Hashes().of(Thing(str(folder))))
    assert hashes[0] == hashes[1]
    (folder / "e").touch()
    assert Hashes().of(Thing(str(folder))) != hashes[0]


def test_a_known_hash_is_used_again_until_size_or_time_change(tmp_path):
    path = tmp_path / "a"
    path.write_text("one")
    os.utime(path, ns=(1, 1))
    hashes = Hashes()
    first = hashes.of(thing(str(path)))
    path.write_text("two")
    os.utime(path, ns=(1, 1))
    assert hashes.of(thing(str(path))) == first
    os.utime(path, ns=(2, 2))
    assert hashes.of(thing(str(path))) != first


def test_a_file_that_was_changed_a_moment_ago_is_hashed_again(tmp_path):
    path = tmp_path / "a"
    hashes = Hashes()
    path.write_text("one")
    hashes.of(thing(str(path)))
    assert hashes.known == {}


def test_records_follow_the_step_that_is_told_the_same():
    def step(number, name, *args):
        return Step(number, name, "trainkit run", {}, args)

    def record(*args):
        return Record(True, Fingerprint("0", "trainkit run", list(args), {}))

    records = {"run 1": record("a"), "run 2": record("b"), "gone": record("z")}
    moved = match_steps(records, [step(1, "run 1", "new"), step(2, "run 2", "a"), step(3, "run 3", "b")])
    assert moved == {"run 2": record("a"), "run 3": record("b"), "gone": record("z")}
