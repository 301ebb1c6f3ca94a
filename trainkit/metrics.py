"""The numbers of a run: one line a log interval, to trainer_log.jsonl and to the console, and the history they make."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson

from registry.atomic import atomic_file
from trainkit.data.loader import Plan

LOG_FILE = "trainer_log.jsonl"


class RunLog:
    """Writes what LLaMA-Factory's log callback writes (as LLaMA-Factory 0.9.5), and keeps Hugging Face's ``log_history``."""

    def __init__(
        self, folder: Path, total_steps: int, progress: Progress, resumed: Mapping[str, Any] | None = None
    ) -> None:
        """``resumed`` is the ``trainer_state.json`` of the checkpoint that a run goes on from."""
        state = resumed or {}
        self._path = folder / LOG_FILE
        self._total_steps, self._progress = total_steps, progress
        self._start_step: int = state.get("global_step", 0)
        self.history: list[dict[str, Any]] = list(state.get("log_history", ()))
        self._began, self._earlier = time.monotonic(), float(state.get("train_runtime", 0.0))
        self.tokens: int = state.get("num_input_tokens_seen", 0)
        self._tokens_before = self.tokens
        self.loss_sum: float = state.get("loss_sum", 0.0)  # of every step's mean loss, for train_loss
        self.first_loss: float | None = state.get("first_loss")
        self.last_loss: float | None = None
        self.unlogged: list[dict[str, float]] = list(state.get("unlogged", ()))  # steps since the last log line
        self._trim(self._start_step)

    def _trim(self, step: int) -> None:
        """Keep the lines up to ``step``: a resumed run writes the later ones anew."""
        lines = self._path.read_bytes().splitlines() if self._path.is_file() else []
        kept = []
        for line in lines if step else []:
            try:
                if orjson.loads(line)["current_steps"] <= step:
                    kept.append(line)
            except (orjson.JSONDecodeError, KeyError):
                continue  # cut off by a kill
        with atomic_file(self._path) as handle:
            handle.writelines(line + b"\n" for line in kept)

    @property
    def seconds(self) -> float:
        """Time spent on this run, all of its parts together."""
        return self._earlier + time.monotonic() - self._began

    @property
    def tokens_per_second(self) -> float:
        return (self.tokens - self._tokens_before) / max(time.monotonic() - self._began, 1e-9)

    def add(self, numbers: dict[str, float]) -> None:
        """The numbers of one more step, to be logged with its interval."""
        self.unlogged.append(numbers)
        self.loss_sum += numbers["loss"]
        self.last_loss = numbers["loss"]
        if self.first_loss is None:
            self.first_loss = self.last_loss

    def write_interval(self, step: int, epoch: float, lr: float) -> None:
        """Log the means of the steps since the last line; the gradient norm is the last step's, as the Trainer's is."""
        means = {name: sum(row[name] for row in self.unlogged) / len(self.unlogged) for name in self.unlogged[-1]}
        means["grad_norm"] = self.unlogged[-1]["grad_norm"]
        self.unlogged = []
        self.write(step, epoch, {**means, "learning_rate": lr})

    def write(self, step: int, epoch: float, numbers: Mapping[str, float]) -> None:
        """One log line; ``numbers`` are Hugging Face's names (loss, grad_norm, learning_rate, eval_loss, …)."""
        done = step - self._start_step
        left = (time.monotonic() - self._began) / max(done, 1) * (self._total_steps - step)
        shown = {key: finite(value) for key, value in numbers.items()}
        self.history.append({**shown, "epoch": round(epoch, 4), "step": step})
        line = {
            "current_steps": step,
            "total_steps": self._total_steps,
            "loss": shown.get("loss"),
            "eval_loss": shown.get("eval_loss"),
            "reward": shown.get("rewards/chosen"),
            "accuracy": shown.get("rewards/accuracies"),
            "lr": shown.get("learning_rate"),
            "grad_norm": shown.get("grad_norm"),
            "epoch": round(epoch, 4),
            "percentage": round(100 * step / self._total_steps, 2),
            "elapsed_time": clock(self.seconds),
            "remaining_time": clock(left),
            "throughput": round(self.tokens_per_second, 2),
            "total_tokens": self.tokens,
        }
        # eval_on_each_dataset: a loss for each set, by its name
        line |= {key: value for key, value in shown.items() if key.startswith("eval_") and key.endswith("_loss")}
        with self._path.open("ab") as handle:
            handle.write(orjson.dumps({k: v for k, v in line.items() if v is not None}) + b"\n")
        self._progress.line(step, numbers, self.tokens_per_second, left)

    def summary(self, plan: Plan) -> dict[str, Any]:
        """The numbers of ``train_results.json``."""
        steps, seconds = plan.total_steps, max(self.seconds, 1e-9)
        return {
            "epoch": round(plan.epoch_after(steps), 4),
            "num_input_tokens_seen": self.tokens,
            "train_loss": self.loss_sum / max(steps, 1),
            "train_runtime": round(seconds, 4),
            "train_samples_per_second": round(plan.examples_after(steps) / seconds, 3),
            "train_steps_per_second": round(steps / seconds, 3),
            "train_tokens_per_second": round(self.tokens_per_second, 3),
        }


def finite(value: float) -> float | None:
    """``value`` rounded to what is worth keeping; None for NaN and infinity, which JSON cannot hold."""
    return float(f"{value:.10g}") if math.isfinite(value) else None


def clock(seconds: float) -> str:
    """Seconds as ``H:MM:SS``."""
    return str(timedelta(seconds=int(seconds)))


class Progress:
    """The console: a live bar on a terminal, one plain line a log interval elsewhere, nothing when quiet."""

    def __init__(self, total_steps: int, *, title: str, quiet: bool) -> None:
        self._total, self._quiet = total_steps, quiet
        self._bar = None
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            numbers = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[numbers]}"))
            times = (TimeElapsedColumn(), TextColumn("·"), TimeRemainingColumn(), TextColumn("left"))
            self._bar = Bar(TextColumn(title), *numbers, *times, console=Console(stderr=True))
            self._task = self._bar.add_task(title, total=total_steps, numbers="")

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *ignored: object) -> None:
        if self._bar:
            self._bar.stop()

    def step(self, step: int) -> None:
        """Move the bar; costs nothing on the device."""
        if self._bar:
            self._bar.update(self._task, completed=step)

    def line(self, step: int, numbers: Mapping[str, float], tokens_per_second: float, left: float) -> None:
        """Show the numbers of one log interval."""
        names = {"loss": "loss", "eval_loss": "eval loss", "learning_rate": "lr", "rewards/accuracies": "accuracy"}
        shown = (
            "  ".join(f"{names[k]} {v:.4g}" for k, v in numbers.items() if k in names)
            + f"  {tokens_per_second:,.0f} tokens/s"
        )
        if self._bar:
            self._bar.update(self._task, numbers=shown)
        elif not self._quiet:
            print(f"step {step}/{self._total}  {shown}  {clock(left)} left", file=sys.stderr, flush=True)
