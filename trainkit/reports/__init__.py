"""Trackers by name, and what a run tells them: numbers at every log line, its config at the start, how it ended."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from registry.atomic import write_json
from registry.errors import Interrupted, StoppedByUser, UsageError, known_hint
from registry.secrets import masked
from trainkit.config import ReportConfig
from trainkit.reports import mlflow, swanlab, tensorboard, trackio, wandb
from trainkit.reports.base import Opening, Status, Tracker
from trainkit.reports.worker import Worker

log = logging.getLogger("tunekit")

RUN_IDS = "reports.json"  # in the output folder: what each tracker calls this run
WAIT_S = 30.0  # for all trackers together at the end of a run
TRUE = ("1", "true", "yes", "on")


@dataclass(frozen=True, slots=True)
class Report:
    """One kind of tracker: how it is opened, its package, the oldest version that has what is called, and the
    environment variable that switches it off."""

    open: Callable[[Opening], Tracker]
    package: str
    oldest: str
    off: str | None = None


REPORTS: dict[str, Report] = {
    "tensorboard": Report(tensorboard.open_run, "tensorboard", "2.14"),
    "wandb": Report(wandb.open_run, "wandb", "0.19", "WANDB_DISABLED"),
    "mlflow": Report(mlflow.open_run, "mlflow", "2.9", "DISABLE_MLFLOW_INTEGRATION"),
    "swanlab": Report(swanlab.open_run, "swanlab", "0.8"),
    "trackio": Report(trackio.open_run, "trackio", "0.20"),
}
# Nothing is told to anybody but the tracker that was asked for. Who sets one of these himself is left alone.
NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "WANDB_ERROR_REPORTING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


class Reports:
    """The trackers of a run, each in a thread of its own; none at all is right too. To be used as a context: it tells
    them at its end how the run ended."""

    def __init__(self, workers: Iterable[Worker] = ()) -> None:
        self._workers = list(workers)
        self._stdout = redirect_stdout(sys.stderr) if self._workers else None  # stdout is for the run's result
        if self._stdout:
            self._stdout.__enter__()
        for worker in self._workers:
            worker.start()

    def __enter__(self) -> Reports:
        return self

    def __exit__(self, kind: type[BaseException] | None, *ignored: object) -> None:
        self.finish(status_of(kind))

    def log(self, step: int, numbers: Mapping[str, Any]) -> None:
        """One log line: what of it is a number goes to every tracker. Never waits, never raises."""
        told = {k: v for k, v in numbers.items() if isinstance(v, int | float) and not isinstance(v, bool)}
        for worker in self._workers if told else ():
            worker.log(step, told)

    def finish(self, status: Status, *, wait_s: float = WAIT_S) -> None:
        """Close every tracker, and wait for all of them ``wait_s`` seconds together at most. Once is enough."""
        workers, self._workers = self._workers, []
        until = time.monotonic() + wait_s
        for worker in workers:
            worker.finish(status)
        for worker in workers:
            worker.wait(until)
        if self._stdout:
            self._stdout.__exit__(None, None, None)
            self._stdout = None


def open_reports(
    settings: ReportConfig,
    folder: Path,
    values: Mapping[str, Any],
    *,
    step: int = 0,
    reports: Mapping[str, Report] = REPORTS,
) -> Reports:
    """Open what ``report_to`` asks for; only one process of a run is to do so.

    ``values`` go along as the run's config, secrets masked. A run that goes on after ``step`` (above 0) goes on in the
    trackers' runs as well, whose names ``reports.json`` in ``folder`` holds. Raises ``UsageError`` where a package is
    missing or too old; what goes wrong later is a warning.
    """
    names = chosen(settings, reports)
    check_packages(names, reports)
    if not names:
        return Reports()
    for variable, value in NO_TELEMETRY.items():
        os.environ.setdefault(variable, value)
    path = folder / RUN_IDS
    ids = _read_ids(path) if step else {}
    lock = threading.Lock()

    def keep(name: str) -> Callable[[str], None]:
        def keep_id(run_id: str) -> None:
            with lock:
                ids[name] = run_id
                write_json(path, ids, sort_keys=True)

        return keep_id

    known = masked(values)
    run_name = settings.run_name or folder.resolve().name
    openings = {name: Opening(settings, folder, run_name, known, step, ids.get(name)) for name in names}
    if not step:
        path.unlink(missing_ok=True)
    return Reports(Worker(name, reports[name].open, opening, keep(name)) for name, opening in openings.items())


def chosen(settings: ReportConfig, reports: Mapping[str, Report] = REPORTS) -> tuple[str, ...]:
    """The trackers that ``report_to`` and ``use_swanlab`` ask for, without those that the environment switches off."""
    asked = dict.fromkeys(name.lower() for name in settings.report_to or ())
    if "all" in asked:
        asked = {name: None for name, kind in reports.items() if importlib.util.find_spec(kind.package)}
    if settings.use_swanlab:
        asked["swanlab"] = None
    found = []
    for name in asked:
        off = reports[name].off if name in reports else None
        if off and os.environ.get(off, "").lower() in TRUE:
            log.info("%s is set, so %s is told nothing", off, name)
        elif name != "none":
            found.append(name)
    return tuple(found)


def unknown_reports(names: Iterable[str]) -> list[str]:
    """What is wrong with the names in ``report_to``: those that are none, and "none" or "all" beside others."""
    listed = list(dict.fromkeys(name.lower() for name in names))
    faults = [
        f'"report_to": there is no tracker "{name}" here. {known_hint(name, [*REPORTS, "all", "none"])}'
        for name in listed
        if name not in (*REPORTS, "all", "none")
    ]
    alone = [name for name in ("none", "all") if name in listed and len(listed) > 1]
    return faults + [f'"report_to": "{name}" stands alone, or not at all' for name in alone]


def check_packages(names: Iterable[str], reports: Mapping[str, Report] = REPORTS) -> None:
    """Raise ``UsageError`` with the install line for trackers whose package is missing or too old."""
    missing, packages = [], []
    for name in names:
        kind = reports[name]
        found = _version_of(kind.package)
        if found is None or _order(found) < _order(kind.oldest):
            missing.append(f"{name} (not installed)" if found is None else f"{name} ({found} is too old)")
            packages.append(f'"{kind.package}>={kind.oldest}"')
    if missing:
        raise UsageError(
            f"report_to names what cannot be reported to: {', '.join(missing)}",
            mend=f"Install it:  pip install {' '.join(packages)}  or take it out of report_to.",
        )


def status_of(kind: type[BaseException] | None) -> Status:
    """How a run ended, by the kind of error that ended it: stopped by somebody, or failed."""
    if kind is None:
        return "finished"
    return "stopped" if issubclass(kind, StoppedByUser | Interrupted | KeyboardInterrupt) else "failed"


def _version_of(package: str) -> str | None:
    """The installed version; mlflow comes as mlflow-skinny too."""
    for name in (package, f"{package}-skinny"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def _order(numbers: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", numbers)[:3])


def _read_ids(path: Path) -> dict[str, str]:
    """What the trackers called the run; nothing where the file is gone or damaged, and then they begin anew."""
    try:
        held = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in held.items() if isinstance(v, str)} if isinstance(held, dict) else {}


__all__ = ["REPORTS", "Report", "Reports", "check_packages", "chosen", "open_reports", "status_of", "unknown_reports"]
