"""Running one step: a datakit verb in this process, a trainkit verb as a process of its own."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from datakit.outcome import Outcome
from datakit.pipeline import process
from datakit.pipeline import steps as datakit_steps
from datakit.pipeline.spec import Step
from datakit.pipeline.state import Result
from registry.errors import TunekitError, from_os_error

log = logging.getLogger("tunekit")

TAIL_LINES = 15


class StepFailed(Exception):
    """A step ended with another exit code than 0; ``message`` is for people."""

    def __init__(self, exit_code: int, message: str, result: Result = Result()) -> None:
        super().__init__(message)
        self.exit_code, self.message, self.result = exit_code, message, result


def run_here(road: _Road, step: Step) -> Result:
    """Run a datakit verb in this process; its log goes to a file, its warnings also to people."""
    path = road.log_of(step)
    with (
        path.open("w", encoding="utf-8") as handle,
        _logging_to(handle, road.board),
        contextlib.redirect_stderr(handle),
    ):
        try:
            outcome = datakit_steps.STEPS[step.verb](step.options)
        except TunekitError as error:
            log.info("%s", error)
            raise StepFailed(error.exit_code, f'step "{step.name}" stopped: {error}') from None
        except OSError as error:
            raise StepFailed(
                from_os_error(error, step.name).exit_code,
                f'step "{step.name}" stopped: {from_os_error(error, step.name)}',
            ) from None
    outputs = [str(path) for path in (*outcome.outputs, outcome.rejects_file) if path is not None]
    result = Result(outcome.rows_in, outcome.rows_out, outcome.rejected, tuple(outputs), _note_of(step, outcome))
    goes_on = (
        step.verb == "validate"
        and outcome.exit_code == 1
        and not step.options.get("strict")
        and step.options.get("clean")
        and outcome.rows_out
    )
    if outcome.exit_code and not goes_on:
        raise StepFailed(outcome.exit_code, _faults(step, outcome), result)
    return result


def _faults(step: Step, outcome: Outcome) -> str:
    """Why a step whose rows have faults stops the pipeline."""
    reasons = "".join(f"\n    {count:,} × {reason}" for reason, count in list(outcome.rejected.items())[:5])
    aside = f"\n  They are in {outcome.rejects_file}." if outcome.rejects_file else ""
    hint = (
        ""
        if step.options.get("clean") or step.verb != "validate"
        else '\n  Add "clean: FILE" to go on with the rows that have none.'
    )
    return f'step "{step.name}" stopped: {outcome.num_rejected:,} of {outcome.rows_in:,} rows have faults{reasons}{aside}{hint}'


def _note_of(step: Step, outcome: Outcome) -> str:
    if step.verb == "stats":
        return f"cutoff_len {outcome.details.get('suggested_cutoff_len')}"
    if step.verb == "validate" and outcome.exit_code:
        return "goes on with the clean rows" if step.options.get("clean") else ""
    return f"dataset {step.options['name']}" if step.verb == "register" else ""


def run_trainkit(road: _Road, step: Step, again: Sequence[str]) -> Result:
    """Run a trainkit verb as a process; ``run`` tells its counts as JSON."""
    path = road.log_of(step)
    answers = path.with_suffix(".out")
    counted = step.trainkit_verb == "run"
    words = [
        str(step.trainkit_verb),
        *step.args,
        *again,
        *(["--json"] if counted and "--json" not in step.args else []),
    ]
    number = step.number - 1
    code = process.run_process(words, path, answers, lambda line: road.board.note(number, line))
    if code == 130:
        raise StepFailed(
            130, f'interrupted in step "{step.name}"; what it had saved is kept', Result(note="interrupted")
        )
    if code:
        tail = "".join(f"\n    {line}" for line in process.tail_of(path, TAIL_LINES))
        told = f"its log ends with:{tail}\n  The whole log: {road.seen_from_origin(path)}" if tail else "it left no log"
        killed = f" (killed by signal {code - 128}; out of memory?)" if code > 128 else ""
        raise StepFailed(
            3 if code > 128 else code,
            f'step "{step.name}" stopped with exit code {code}{killed}; {told}',
            Result(note=f"exit code {code}"),
        )
    stdout = answers.read_text(encoding="utf-8", errors="replace").strip()
    made = tuple(one.path for one in step.outputs())
    if not counted:
        return Result(outputs=made, stdout=stdout if step.show else "")
    return replace(_counts(stdout, made), stdout=stdout if step.show else "")


def _counts(stdout: str, made: tuple[str, ...]) -> Result:
    """Rows and losses from what ``trainkit run --json`` prints; without them where that is not one object."""
    try:
        told = orjson.loads(stdout)
        rejected = told.get("rejected") or {}
        counts = rejected if isinstance(rejected, dict) else {"not told": int(rejected)}
        first, last = told.get("first_loss"), told.get("last_loss")
        note = (
            f"loss {first:.4g} → {last:.4g}" if isinstance(first, int | float) and isinstance(last, int | float) else ""
        )
        outputs = tuple(dict.fromkeys((*made, *map(str, told.get("outputs") or ()))))
        return Result(told.get("rows_in"), told.get("rows_out"), counts, outputs, note)
    except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError):
        log.warning("the step told no counts: its stdout is not one JSON object")
        return Result(outputs=made)


@contextlib.contextmanager
def _logging_to(handle: Any, board: Board) -> Iterator[None]:
    """Send the log to a step's file for the time of a block, warnings also to people."""
    to_file = logging.StreamHandler(handle)
    to_people = _Warnings(board)
    before, level = log.handlers[:], log.level
    log.handlers[:] = [to_file, to_people]
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.handlers[:] = before
        log.setLevel(level)


class _Warnings(logging.Handler):
    """Shows warnings on the board."""

    def __init__(self, board: Board) -> None:
        super().__init__(logging.WARNING)
        self._board = board

    def emit(self, record: logging.LogRecord) -> None:
        self._board.say(f"{record.levelname.lower()}: {record.getMessage()}")


