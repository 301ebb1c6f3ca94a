"""What both commands share at the rim: signals, exit codes, errors without tracebacks, logs on stderr."""

from __future__ import annotations

import json
import logging
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import orjson

from registry.errors import Interrupted, StoppedByUser, TunekitError, from_os_error
from registry.secrets import is_secret

log = logging.getLogger("tunekit")


class _State:
    """Options given before or after the verb, the same for all of them."""

    debug = False


def run_app(app: Callable[[], Any], program: str) -> NoReturn:
    """Run a Typer app and leave the process with the exit code of the design (section 5)."""
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup has it ignored
            signal.signal(number, _interrupt)
    if "--debug" in sys.argv:
        sys.argv.remove("--debug")
        _State.debug = True
    try:
        app()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.__context__, BrokenPipeError):  # click leaves with 1 for it
            _silence_stdout()
            code = 0
    except (Interrupted, KeyboardInterrupt):
        complain("interrupted; what was there before is intact, and no half-written file is left")
        code = 130
    except TunekitError as error:
        code = fail(error)
    except BrokenPipeError:
        _silence_stdout()
        code = 0  # the reader (head, less) has seen enough
    except OSError as error:
        code = fail(from_os_error(error, f"running {program}"))
    except Exception as error:  # noqa: BLE001  # the last resort: a bug must not look like the user's fault
        if _is_out_of_memory(error):
            complain("out of memory; nothing half-written is left")
            sys.exit(3)
        if _State.debug:
            traceback.print_exc()
        complain(f"a fault of ours: {type(error).__name__}: {error}")
        complain(
            f"  Please report it with the output of:  {program} --debug {' '.join(map(_without_secret, sys.argv[1:]))}"
        )
        code = 4
    sys.exit(_flush_stdout(code))


def _without_secret(argument: str) -> str:
    """``hf_hub_token=abc`` → ``hf_hub_token=…``: what is pasted into a bug report must hold no key."""
    name, equals, _ = argument.partition("=")
    return f"{name}=…" if equals and is_secret(name) else argument


def _is_out_of_memory(error: Exception) -> bool:
    """Python's own, CUDA's, and the plain ``RuntimeError`` that torch raises on the CPU."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


def _interrupt(number: int, frame: Any) -> NoReturn:
    raise Interrupted


def _flush_stdout(code: int) -> int:
    """Write out what stdout still holds. Left to the interpreter's end, a full disk would turn any exit code into 120."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
    except OSError as error:
        _silence_stdout()
        return code or fail(from_os_error(error, "writing to stdout"))
    return code


def _silence_stdout() -> None:
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(error: TunekitError) -> int:
    """Tell an error on stderr, with its traceback only under ``--debug``; return its exit code."""
    if _State.debug:
        traceback.print_exception(error)
    if isinstance(error, StoppedByUser):
        print(error, file=sys.stderr, flush=True)  # what was asked for is no error
    else:
        complain(str(error))
    return error.exit_code


def complain(text: str) -> None:
    """One line (or a few) on stderr, red where stderr is a terminal."""
    mark = "\x1b[31merror:\x1b[0m" if sys.stderr.isatty() else "error:"
    print(text if text.startswith(" ") else f"{mark} {text}", file=sys.stderr, flush=True)


def set_up_logging(quiet: bool) -> None:
    """Send the log of all packages to stderr: warnings only when ``quiet``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain())
    log.handlers[:] = [handler]
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    log.propagate = False


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        return f"{record.levelname.lower()}: {text}" if record.levelno >= logging.WARNING else text


def print_json(value: Any) -> None:
    """The one JSON object that ``--json`` promises, on stdout."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
    except TypeError:  # the name of a file that is no UTF-8, or a whole number beyond 64 bits
        text = json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace")
    sys.stdout.buffer.write(text + b"\n")
    sys.stdout.buffer.flush()
