"""The rim of both commands: exit codes, errors in a few lines, a traceback only under --debug."""

import logging
import os
import signal
import subprocess
import sys

import pytest

from registry.command import _State, print_json, run_app, set_up_logging
from registry.errors import DataError, Interrupted, StoppedByUser, StoppedError, UsageError
from tests.conftest import REPOSITORY


@pytest.fixture
def leave(monkeypatch, capfd):
    """``leave(app, "--debug")``: run ``app`` as a console script would; the exit code and what stderr says."""

    def run(app, *arguments):
        monkeypatch.setattr(sys, "argv", ["tool", *arguments])
        monkeypatch.setattr(_State, "debug", False)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with pytest.raises(SystemExit) as end:
                run_app(app, "tool")
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return end.value.code, capfd.readouterr().err

    return run


def raising(error):
    def app():
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("no such file", where="a.jsonl", mend="Look again."), 2, "error: a.jsonl: no such file\n  Look again.\n"),
        (DataError("3 rows have faults"), 1, "error: 3 rows have faults\n"),
        (StoppedError("the disk is full", mend="Go on with:  tool"), 3, "error: the disk is full\n  Go on with:  tool\n"),
        (StoppedByUser("stopped; the work so far is saved"), 130, "stopped; the work so far is saved\n"),  # asked for, so no error
        (OSError(28, "No space left on device", "out"), 3,
         "error: out: the disk is full while running tool\n"
         "  Free some space and run the same command again; files that were there before are intact.\n"),
        (PermissionError(13, "Permission denied", "out"), 2, "error: out: cannot go on running tool: Permission denied\n"),
        (MemoryError(), 3, "error: out of memory; nothing half-written is left\n"),
        (ZeroDivisionError("division by zero"), 4,
         "error: a fault of ours: ZeroDivisionError: division by zero\n"
         "  Please report it with the output of:  tool --debug verb x\n"),
        (SystemExit(2), 2, ""),
        (SystemExit(), 0, ""),
    ],
)  # fmt: skip
def test_every_ending_has_its_exit_code_and_a_few_lines_without_a_traceback(leave, error, code, said):
    assert leave(raising(error), "verb", "x") == (code, said)


def test_an_end_without_an_error_is_0(leave):
    assert leave(lambda: None) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_a_scheduler_s_stop_are_130(leave, number):
    def app():
        try:
            os.kill(os.getpid(), number)
        except Exception:  # noqa: BLE001  # what careless code does must not swallow it
            pytest.fail("an interruption is no ordinary exception")

    code, said = leave(app)
    assert code == 130
    assert said == "error: interrupted; what was there before is intact, and no half-written file is left\n"
    assert leave(raising(Interrupted()))[0] == 130


@pytest.mark.parametrize("error", [UsageError("no such file"), ZeroDivisionError("oops"), DataError("bad")])
def test_debug_anywhere_on_the_line_shows_the_traceback(leave, error):
    seen = []

    def app():
        seen.append(list(sys.argv))
        raise error

    _, said = leave(app, "verb", "--debug", "x")
    assert "Traceback (most recent call last)" in said
    assert seen == [["tool", "verb", "x"]]  # the verb itself need not know the option


@pytest.mark.parametrize("app", ["app", "typer.main.get_command(cli)"])
def test_a_reader_that_has_seen_enough_is_no_error(app):
    """`tool | head -1`: neither a message nor a code, also where click would leave with 1."""
    code = (
        "import sys, typer\n"
        "from registry.command import run_app\n"
        "cli = typer.Typer()\n"
        "@cli.command()\n"
        "def app():\n"
        "    while True: sys.stdout.write('row\\n' * 1000)\n"
        f"run_app({app}, 'tool')"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == b"row\n"
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(30) == 0


def test_json_is_one_object_on_stdout(capfdbinary):
    print_json({"text": "你", 1: [1.5]})
    assert capfdbinary.readouterr().out == '{\n  "text": "你",\n  "1": [\n    1.5\n  ]\n}\n'.encode()


@pytest.mark.parametrize(("quiet", "said"), [(False, "note\nwarning: mind\n"), (True, "warning: mind\n")])
def test_the_log_goes_to_stderr_and_quiet_leaves_warnings(capfd, monkeypatch, quiet, said):
    log = logging.getLogger("tunekit")
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "level", log.level)
    monkeypatch.setattr(log, "propagate", log.propagate)
    set_up_logging(quiet)
    log.info("note")
    log.warning("mind")
    assert capfd.readouterr() == ("", said)
    log.setLevel(logging.NOTSET)


def test_a_bug_report_holds_no_key():
    from registry.command import _without_secret

    assert [_without_secret(a) for a in ("hf_hub_token=abc", "stage=sft", "--prompt")] == [
        "hf_hub_token=…",
        "stage=sft",
        "--prompt",
    ]
