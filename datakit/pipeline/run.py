"""The road: each step of a pipeline in order, skipped where its last run still stands, stopped at the first that fails."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from filelock import FileLock, Timeout

from datakit.pipeline import trainkit_args
from datakit.pipeline.board import Board, Line, print_final
from datakit.pipeline.runners import StepFailed, run_here, run_trainkit
from datakit.pipeline.spec import Pipeline, Step, read_pipeline
from datakit.pipeline.state import (
    Fingerprint,
    Record,
    Result,
    State,
    fingerprint_of,
    hashed,
    load_state,
    match_steps,
    reason_to_run,
)
from datakit.pipeline.things import Thing, makes, thing
from registry.command import complain
from registry.errors import Interrupted, UsageError, did_you_mean, from_os_error

STATE_FOLDER = ".datakit"


@dataclass(frozen=True)
class PipelineResult:
    """What came of a pipeline; ``exit_code`` is that of the step that stopped it, or 0."""

    name: str
    folder: Path
    lines: tuple[Line, ...]
    shown: Mapping[str, str] = field(default_factory=dict)
    exit_code: int = 0

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints; outputs are paths from ``folder``."""
        steps = [line.as_json() for line in self.lines]
        return {
            "pipeline": self.name,
            "folder": str(self.folder),
            "steps": steps,
            "shown": dict(self.shown),
            "exit_code": self.exit_code,
        }


@dataclass(frozen=True)
class _Road:
    """What all steps of one run share. ``home`` holds state and logs; ``origin`` is where the user stands."""

    pipeline: Pipeline
    home: Path
    origin: Path
    state: State
    board: Board

    def seen_from_origin(self, path: str | Path) -> str:
        """A path of the pipeline's folder as the user would type it."""
        return os.path.relpath(self.pipeline.folder / path, self.origin)

    def log_of(self, step: Step) -> Path:
        """Where the log of a step lies, from the pipeline's folder."""
        taken = [_slug(other.name) for other in self.pipeline.steps[: step.number - 1]]
        name = _slug(step.name)
        return self.home / (f"{name}-{step.number}.log" if name in taken else f"{name}.log")


def run_pipeline(
    path: str | Path, *, from_step: str | None, dry_run: bool, show: bool = True, quiet: bool = False
) -> PipelineResult:
    """Run the pipeline in the file ``path``; steps whose inputs, options and outputs are as they were are skipped.

    ``from_step`` names a step that runs with all after it in any case. ``show`` prints the final tables on stdout,
    ``quiet`` keeps stderr to warnings and errors. Raises ``UsageError`` where the file cannot be used at all; what
    goes wrong in a step is told on stderr and kept in the result.
    """
    given, origin = Path(path), Path.cwd()
    if not given.parent.is_dir():
        raise UsageError(f"there is no folder {given.parent}", where=str(path))
    with contextlib.chdir(given.parent):
        pipeline = read_pipeline(given.name, shown_as=str(path))
        first_forced = _number_of(from_step, pipeline) if from_step else None
        home = Path(STATE_FOLDER, _slug(pipeline.name))
        state = load_state(home / "state.json")
        state.steps = match_steps(state.steps, pipeline.steps)
        board = Board([Line(step.name, step.verb) for step in pipeline.steps], quiet=quiet or dry_run)
        road = _Road(pipeline, home, origin, state, board)
        if dry_run:
            _rehearse(road, first_forced)
            if show:
                print_final(board.lines, {}, [])
            return PipelineResult(pipeline.name, pipeline.folder, tuple(board.lines))
        with _only_one(home, pipeline), _hangup_interrupts():
            exit_code, message = _run_all(road, first_forced)
            state.save()
        steps = zip(pipeline.steps, board.lines, strict=True)
        shown = {s.show: line.result.stdout for s, line in steps if s.show and line.state in ("done", "skipped")}
        if show:
            look_at = {} if exit_code else pipeline.look_at
            files = [(road.seen_from_origin(file), what, Path(file).exists()) for file, what in look_at.items()]
            print_final(board.lines, shown, files)
        if message:
            complain(message)
        return PipelineResult(pipeline.name, pipeline.folder, tuple(board.lines), shown, exit_code)


def _number_of(name: str, pipeline: Pipeline) -> int:
    names = [step.name for step in pipeline.steps]
    if name not in names:
        raise UsageError(
            f'there is no step "{name}"',
            where="--from",
            mend=f"{did_you_mean(name, names)} Steps: {', '.join(names)}".lstrip(),
        )
    return names.index(name) + 1


@contextlib.contextmanager
def _only_one(home: Path, pipeline: Pipeline) -> Iterator[None]:
    """Two runs of one pipeline would write the same files."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / "lock", timeout=0):
            yield
    except Timeout:
        raise UsageError(
            "another run of this pipeline is going on", where=pipeline.file, mend="Wait for it, or stop it."
        ) from None
    except PermissionError as error:
        raise from_os_error(error, "keeping the pipeline's state") from None


@contextlib.contextmanager
def _hangup_interrupts() -> Iterator[None]:
    """A closed terminal stops us, and so the training in its own process group, as Ctrl-C does; nohup is heeded."""
    number = getattr(signal, "SIGHUP", None)
    if (
        number is None
        or threading.current_thread() is not threading.main_thread()
        or signal.getsignal(number) != signal.SIG_DFL
    ):
        yield
        return
    signal.signal(number, _interrupt)
    try:
        yield
    finally:
        signal.signal(number, signal.SIG_DFL)


def _interrupt(number: int, frame: Any) -> NoReturn:
    raise Interrupted


def _rehearse(road: _Road, first_forced: int | None) -> None:
    """Say of every step whether it would run, and why; nothing is changed."""
    remade: list[tuple[Thing, str]] = []
    for i, step in enumerate(road.pipeline.steps):
        why = _why_run(road, step, first_forced, fingerprint_of(step, road.state.hashes))
        before = next((name for made, name in remade for need in step.inputs() if makes(made, need)), None)
        if why is None and before:
            why = f'if "{before}" makes anything else than last time'
        road.board.lines[i] = replace(
            road.board.lines[i], state="would run" if why else "would skip", why=why or "nothing changed"
        )
        if why:
            remade += [(made, step.name) for made in step.outputs()]


def _why_run(road: _Road, step: Step, first_forced: int | None, now: Fingerprint) -> str | None:
    if first_forced is not None and step.number >= first_forced:
        return "--from"
    return reason_to_run(road.state.steps.get(step.name), now, road.state.hashes)


def _run_all(road: _Road, first_forced: int | None) -> tuple[int, str]:
    """Every step in order; the exit code and the message of the one that stopped it all."""
    board, state = road.board, road.state
    with board.shown():
        for i, step in enumerate(road.pipeline.steps):
            why = None
            try:
                now = fingerprint_of(step, state.hashes)
                why = _why_run(road, step, first_forced, now)
                if why is None:
                    board.finish(i, "skipped", "nothing changed", state.steps[step.name].result)
                    continue
                board.start(i, why)
                board.finish(i, "done", why, _run_step(road, step, now))
            except (Interrupted, KeyboardInterrupt):
                board.finish(i, "failed", why or "", Result(note="interrupted"))
                message = f'interrupted in step "{step.name}"; what was there before is intact'
                return 130, _farewell(road, 130, message)
            except StepFailed as failed:
                board.finish(i, "done" if failed.finished else "failed", why or "", failed.result)
                return failed.exit_code, _farewell(road, failed.exit_code, failed.message)
    return 0, ""


def _remember(state: State, step: Step, now: Fingerprint, result: Result) -> None:
    """Enter a finished step into the state; of a dataset_info.json only the entry is its own."""
    known = step.outputs()
    entries = {one.path for one in known if one.kind == "entry"}
    made = tuple(dict.fromkeys((*known, *(one for one in map(thing, result.outputs) if one.path not in entries))))
    state.steps[step.name] = Record(True, now, hashed(made, state.hashes), made, True, result)
    state.save()


def _farewell(road: _Road, exit_code: int, message: str) -> str:
    """The message with what to do next."""
    folder = os.path.relpath(road.pipeline.folder, road.origin)
    places = f"\n  Paths in it are from {folder}." if folder != "." and exit_code != 130 else ""
    todo = "Go on where it stopped" if exit_code in (3, 130) else "Mend it and run again; finished steps are skipped"
    return f"{message}{places}\n  {todo}:  datakit run {road.pipeline.file}"


def _run_step(road: _Road, step: Step, now: Fingerprint) -> Result:
    """Run one step and remember it. Raises ``StepFailed``, ``Interrupted``."""
    before, started = road.state.steps.get(step.name), time.monotonic()
    # Not complete until it is: whatever ends this run, the next one knows that the step was begun, and on what.
    outputs = tuple(step.outputs())
    owned = _is_ours(outputs, before) or not any(map(_holds_something, outputs))
    road.state.steps[step.name] = Record(False, now, things=outputs, owned=owned)
    road.state.save()
    try:
        result = replace(_start(road, step, _asks_again(step, before, now)), seconds=time.monotonic() - started)
    except StepFailed as failed:
        failed.result = replace(failed.result, seconds=time.monotonic() - started)
        if failed.finished:
            _remember(road.state, step, now, failed.result)
        raise
    _remember(road.state, step, now, result)
    return result


def _start(road: _Road, step: Step, again: Sequence[str]) -> Result:
    log_file, note = road.log_of(step), partial(road.board.note, step.number - 1)
    if not step.trainkit_verb:
        return run_here(step, log_file, road.board.say)
    return run_trainkit(step, again, log_file, road.seen_from_origin(log_file), road.board.say, note)


def _asks_again(step: Step, before: Record | None, now: Fingerprint) -> list[str]:
    """``--fresh`` (or ``--force``) where what lies at the outputs was made by this step and is to be made anew.

    An unfinished training of unchanged inputs goes on where it was instead (one that had just finished when we were
    killed cannot); a folder that is not ours is left to trainkit, which refuses to touch it.
    """
    flag = trainkit_args.AGAIN.get(str(step.trainkit_verb))
    if flag is None or flag in step.args or before is None:
        return []
    then = before.fingerprint
    same = (then.told, then.inputs) == (now.told, now.inputs)
    goes_on = step.trainkit_verb == "run" and same and not before.complete and not trainkit_args.is_finished(step.args)
    return [flag] if _is_ours(step.outputs(), before) and not goes_on else []


def _is_ours(outputs: Iterable[Thing], before: Record | None) -> bool:
    return before is not None and before.owned and set(outputs) <= set(before.things)


def _holds_something(one: Thing) -> bool:
    path = Path(one.path)
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "step"
