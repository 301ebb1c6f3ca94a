"""Running one step: a datakit verb in this process, a trainkit verb as a process of its own."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import orjson

from datakit.outcome import Outcome
from datakit.pipeline import augmenting, process
from datakit.pipeline import steps as datakit_steps
from datakit.pipeline.spec import Step
from datakit.pipeline.state import Result
from registry.errors import TunekitError, from_os_error

log = logging.getLogger("tunekit")

TAIL_LINES = 15
MOST_STDOUT = 100_000  # characters of what a step prints that are kept


class StepFailed(Exception):
    """The pipeline stops here with ``exit_code``; ``message`` is for people. ``finished``: the step itself is done."""

    def __init__(self, exit_code: int, message: str, result: Result = Result(), *, finished: bool = False) -> None:
        super().__init__(message)
        self.exit_code, self.message, self.result, self.finished = exit_code, message, result, finished


def run_here(step: Step, log_file: Path, say: Callable[[str], None]) -> Result:
    """Run a datakit verb in this process; its log goes to ``log_file``, its warnings also to ``say``.

    Raises ``StepFailed`` for errors, and for faulty rows where there is nothing to go on with.
    """
    with (
        log_file.open("w", encoding="utf-8") as handle,
        _logging_to(handle, say),
        contextlib.redirect_stderr(handle),  # no terminal: no progress of its own beside the pipeline's table
    ):
        try:
            outcome = datakit_steps.STEPS[step.verb](step.options)
        except (TunekitError, OSError) as error:
            known = from_os_error(error, f'running step "{step.name}"') if isinstance(error, OSError) else error
            log.info("%s", known)
            raise StepFailed(known.exit_code, f'step "{step.name}" stopped: {known}') from None
    outputs = [str(path) for path in (*outcome.outputs, outcome.rejects_file) if path is not None]
    outputs = outputs or [one.path for one in step.outputs()]
    result = Result(outcome.rows_in, outcome.rows_out, outcome.rejected, tuple(outputs), _note_of(step, outcome))
    if step.verb == "augment":
        result = _told_of(step, outcome, result, say)
    if outcome.exit_code and not _goes_on(step, outcome):
        raise StepFailed(outcome.exit_code, _faults(step, outcome), result)
    return result


def _told_of(step: Step, outcome: Outcome, result: Result, say: Callable[[str], None]) -> Result:
    """The result with its report, where that is to be shown. Where answers were recorded, people are told in any case."""
    if step.show:
        return replace(result, stdout=augmenting.report_of(outcome.details)[:MOST_STDOUT])
    recorded = augmenting.recorded(outcome.details)
    if recorded:
        say(f"{step.name}: {recorded}")
    return result


def _goes_on(step: Step, outcome: Outcome) -> bool:
    """Whether a step with faulty rows leaves clean ones that the next step can take up."""
    wanted = step.verb == "validate" and bool(step.options.get("clean")) and not step.options.get("strict")
    return wanted and outcome.exit_code == 1 and outcome.rows_out > 0


def _faults(step: Step, outcome: Outcome) -> str:
    """Why a step whose rows have faults, or that could not be finished, stops the pipeline."""
    if outcome.details.get("stopped"):
        return f'step "{step.name}" stopped: {outcome.details["stopped"]}'
    what = f"{outcome.num_rejected:,} of {outcome.rows_in:,} rows have faults"
    reasons = "".join(f"\n    {count:,} × {reason}" for reason, count in list(outcome.rejected.items())[:5])
    aside = f"\n  They are in {outcome.rejects_file}." if outcome.rejects_file else ""
    can_go_on = step.verb == "validate" and not step.options.get("clean")
    hint = '\n  Add "clean: FILE" to go on with the rows that have none.' if can_go_on else ""
    return f'step "{step.name}" stopped: {what}{reasons}{aside}{hint}'


def _note_of(step: Step, outcome: Outcome) -> str:
    if step.verb == "stats":
        return f"cutoff_len {outcome.details.get('suggested_cutoff_len')}"
    if step.verb == "validate" and outcome.exit_code:
        return "goes on with the clean rows" if step.options.get("clean") else ""
    if step.verb == "register":
        return f"dataset {step.options['name']}"
    if step.verb == "augment":
        return augmenting.note_of(outcome.details)
    left_out = sum(outcome.filtered.values())
    return f"{left_out:,} left out" if left_out else ""


def run_trainkit(
    step: Step,
    again: Sequence[str],
    log_file: Path,
    log_name: str,
    say: Callable[[str], None],
    note: Callable[[str], None],
) -> Result:
    """Run a trainkit verb as a process, with ``again`` added to its arguments; ``run`` tells its counts as JSON.

    The last line of its log goes to ``note`` as it comes. ``log_name`` is the log's path as the user would type it.
    Raises ``StepFailed`` with the end of the log.
    """
    answers = log_file.with_suffix(".out")
    counted = step.trainkit_verb == "run"
    more = ["--json"] if counted and "--json" not in step.args else []
    words = [str(step.trainkit_verb), *step.args, *again, *more]
    ended = process.run_process(words, log_file, answers, note)
    if ended.code and (ended.interrupted or ended.code == 130):
        raise StepFailed(
            130, f'interrupted in step "{step.name}"; what it had saved is kept', Result(note="interrupted")
        )
    if ended.code:
        raise _failed(step, ended.code, process.tail_of(log_file, TAIL_LINES), log_name)
    stdout = answers.read_text(encoding="utf-8", errors="replace").removesuffix("\n")
    made = tuple(one.path for one in step.outputs())
    result = _counts(stdout, made, say) if counted else Result(outputs=made)
    # Kept for the day it is to be shown; what is meant for programs is not.
    result = replace(result, stdout=stdout[:MOST_STDOUT] if step.show or not counted else "")
    if ended.interrupted:
        raise StepFailed(130, f'interrupted as step "{step.name}" was done', result, finished=True)
    return result


def _failed(step: Step, code: int, tail: Sequence[str], log_name: str) -> StepFailed:
    what = f'step "{step.name}" stopped with exit code {code}'
    if code > 128:  # as shells count it; whoever killed it, it can go on
        what, code = f'step "{step.name}" was killed by signal {code - 128} (out of memory?)', 3
    shown = "".join(f"\n    {line}" for line in tail)
    told = f"; its log ends with:{shown}\n  The whole log: {log_name}" if tail else f"; its log, {log_name}, is empty"
    return StepFailed(code, what + told, Result(note=what.split('" ')[1]))


def _counts(stdout: str, made: tuple[str, ...], say: Callable[[str], None]) -> Result:
    """Rows and losses from what ``trainkit run --json`` prints; without them where that is not one object."""
    try:
        told = orjson.loads(stdout)
        rejected = {str(reason): int(count) for reason, count in (told.get("rejected") or {}).items()}
        first, last = told.get("first_loss"), told.get("last_loss")
        told_losses = isinstance(first, int | float) and isinstance(last, int | float)
        outputs = tuple(dict.fromkeys((*made, *map(str, told.get("outputs") or ()))))
        note = f"loss {first:.4g} → {last:.4g}" if told_losses else ""
        return Result(told.get("rows_in"), told.get("rows_out"), rejected, outputs, note)
    except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError):
        say("warning: the step told no counts: its stdout is not one JSON object")
        return Result(outputs=made)


@contextlib.contextmanager
def _logging_to(handle: TextIO, say: Callable[[str], None]) -> Iterator[None]:
    """Send the log to a step's file for the time of a block, warnings also to people."""
    to_file = logging.StreamHandler(handle)
    to_people = _Warnings(say)
    before, level = log.handlers[:], log.level
    log.handlers[:] = [to_file, to_people]
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.handlers[:] = before
        log.setLevel(level)


class _Warnings(logging.Handler):
    """Tells people what is a warning."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(f"{record.levelname.lower()}: {record.getMessage()}")
