"""What a tracker is to a run: something opened once, told numbers by step, and closed with how the run ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from trainkit.config import ReportConfig

Status = Literal["finished", "failed", "stopped"]
Numbers = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Opening:
    """What a tracker is opened with.

    ``name`` of the run; ``values``: its config, secrets masked; ``step`` that it goes on after (0: from the start);
    ``run_id``: what the tracker called the run that is gone on with, None for a new one.
    """

    settings: ReportConfig
    folder: Path
    name: str
    values: Mapping[str, Any]
    step: int = 0
    run_id: str | None = None


class Tracker(Protocol):
    """One open run of one tracker. Any method may raise or hang: ``trainkit.reports.worker`` keeps that from the run."""

    run_id: str

    def log(self, step: int, numbers: Numbers) -> None:
        """Send finite numbers by Hugging Face's names (``loss``, ``eval_loss``, …)."""
        ...

    def finish(self, status: Status) -> None:
        """Send what is left and close the run."""
        ...


def sectioned(numbers: Numbers) -> dict[str, float]:
    """``eval_loss`` → ``eval/loss``, all else → ``train/…``: the charts that Hugging Face's Trainer makes."""
    return {
        f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}": value
        for name, value in numbers.items()
    }
