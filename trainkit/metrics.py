"""The numbers of a run: one line a log interval, to trainer_log.jsonl and to the console, and the history they make."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from registry.atomic import atomic_file
from registry.errors import reason_of
from trainkit.data.loader import Plan

if TYPE_CHECKING:
    from trainkit.reports import Reports

log = logging.getLogger("tunekit")

LOG_FILE = "trainer_log.jsonl"
# What the console shows of the numbers, and how it calls them.
SHOWN = {
    "loss": "loss",
    "learning_rate": "lr",
    "grad_norm": "grad norm",
    "rewards/accuracies": "accuracy",
    "eval_loss": "eval loss",
    "eval_accuracy": "eval accuracy",
    "eval_rewards/accuracies": "eval accuracy",
    "perplexity": "perplexity",
}


@dataclass(frozen=True, slots=True)
class Peak:
    """What MFU is a share of: the FLOP/s that all devices of a run could do together, and where that number is from."""

    flops: float
    name: str


class RunLog:
    """Writes what LLaMA-Factory's log callback writes (as LLaMA-Factory 0.9.5), and keeps Hugging Face's ``log_history``.

    ``unit`` is what a step's weight counts: trained tokens, pairs, or rows. A process that is not the first of its run
    ``writes`` nothing, and keeps the numbers all the same.
    """

    def __init__(
        self,
        folder: Path,
        total_steps: int,
        progress: Progress,
        resumed: Mapping[str, Any] | None = None,
        *,
        reports: Reports | None = None,
        peak: Peak | None = None,
        unit: str = "tokens",
        on_gpu: bool = False,
        writes: bool = True,
    ) -> None:
        """``resumed`` is the ``trainer_state.json`` of the checkpoint that a run goes on from."""
        state = resumed or {}
        self._path = folder / LOG_FILE
        self._total_steps, self._progress, self._reports = total_steps, progress, reports
        self._peak, self._unit, self._on_gpu, self._writes = peak, unit, on_gpu, writes
        self._start_step: int = state.get("global_step", 0)
        self.history: list[dict[str, Any]] = list(state.get("log_history", ()))
        self._began, self._earlier = time.monotonic(), float(state.get("train_runtime", 0.0))
        self.tokens: int = state.get("num_input_tokens_seen", 0)
        self.skipped: int = state.get("skipped_steps", 0)
        self.checkpoints_failed = 0
        self._told = False  # that the log cannot be written
        self._total = Work(self._began)  # of this process, and of the interval since the last line
        self._interval = Work(self._began)
        self.loss_sum: float = state.get("loss_sum", 0.0)  # of every step's mean loss, for train_loss
        self.first_loss: float | None = state.get("first_loss")
        self.last_loss: float | None = None
        self.unlogged: list[dict[str, float]] = list(state.get("unlogged", ()))  # steps since the last log line
        if writes:
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
        return self._total.rates(self._unit, self._peak)["tokens_per_second"]

    def count(self, num_tokens: int, num_trained: float, num_flops: float = 0.0) -> None:
        """The work of one more step on all ranks: tokens that are no padding, the weight of its batches, and the FLOPs of
        the model's products forward and backward."""
        self.tokens += num_tokens
        for work in (self._total, self._interval):
            work.tokens += num_tokens
            work.trained += num_trained
            work.flops += num_flops

    def add(self, numbers: dict[str, float]) -> None:
        """The numbers of one more step, to be logged with its interval."""
        self.unlogged.append(numbers)
        self.loss_sum += numbers["loss"]
        self.last_loss = numbers["loss"]
        if self.first_loss is None:
            self.first_loss = self.last_loss

    def write_interval(self, step: int, epoch: float, lr: float) -> None:
        """Log the means of the steps since the last line, each number over the steps that have it; the gradient norm is the
        last step's, as the Trainer's is. Where every step was skipped there is none."""
        rows, self.unlogged = self.unlogged, []
        names = dict.fromkeys(name for row in rows for name in row)
        means = {}
        for name in names:
            values = [row[name] for row in rows if name in row]
            means[name] = sum(values) / len(values)
        if rows:
            means["grad_norm"] = rows[-1]["grad_norm"]
        speed: dict[str, Any] = self._interval.rates(self._unit, self._peak)
        self._interval = Work(time.monotonic())
        if self.skipped:
            speed["skipped_steps"] = self.skipped
        if self._on_gpu:
            speed |= _memory()
        self.write(step, epoch, {**means, "learning_rate": lr}, speed)

    def write(
        self, step: int, epoch: float, numbers: Mapping[str, float], speed: Mapping[str, Any] | None = None
    ) -> None:
        """One log line; ``numbers`` are Hugging Face's names (loss, grad_norm, learning_rate, eval_loss, …). ``speed`` is
        what tells of the machine, so it is no part of the history, which two equal runs have in common."""
        done = step - self._start_step
        left = (time.monotonic() - self._began) / max(done, 1) * (self._total_steps - step)
        shown = {key: finite(value) for key, value in numbers.items()}
        speed = speed or {}
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
            **speed,
        }
        # whatever else evaluation found: accuracy, perplexity, rewards, a loss for each set by its name
        line |= {k: v for k, v in shown.items() if k.startswith("eval_") or k.endswith("perplexity")}
        if not self._writes:
            return
        self._append(orjson.dumps({k: v for k, v in line.items() if v is not None}) + b"\n")
        self._progress.line(step, numbers, speed.get("tokens_per_second", self.tokens_per_second), left)
        if self._reports:
            self._reports.log(step, {**shown, **speed, "epoch": line["epoch"], "total_tokens": self.tokens})

    def _append(self, line: bytes) -> None:
        """A line that the disk does not take is no reason to end a run; it is told once."""
        try:
            with self._path.open("ab") as handle:
                handle.write(line)
        except OSError as error:
            if not self._told:
                log.warning("%s cannot be written: %s; training goes on without it", self._path, reason_of(error))
            self._told = True

    def summary(self, plan: Plan, done: int | None = None) -> dict[str, Any]:
        """The numbers of ``train_results.json``, after ``done`` steps (None: all of the plan)."""
        steps, seconds = plan.total_steps if done is None else done, max(self.seconds, 1e-9)
        rates = self._total.rates(self._unit, self._peak)
        found = {
            "epoch": round(plan.epoch_after(steps), 4),
            "num_input_tokens_seen": self.tokens,
            "train_loss": self.loss_sum / max(steps - self.skipped, 1),
            "train_runtime": round(seconds, 4),
            "train_samples_per_second": round(plan.examples_after(steps) / seconds, 3),
            "train_steps_per_second": round(steps / seconds, 3),
            **{f"train_{name}": value for name, value in rates.items()},
        }
        counted = {"skipped_steps": self.skipped, "checkpoints_failed": self.checkpoints_failed}
        return found | {name: count for name, count in counted.items() if count}


@dataclass(slots=True)
class Work:
    """What was computed since ``began`` (of ``time.monotonic``)."""

    began: float
    tokens: int = 0
    trained: float = 0.0
    flops: float = 0.0

    def rates(self, unit: str, peak: Peak | None) -> dict[str, Any]:
        """Tokens and trained ``unit`` a second; ``mfu`` where both FLOPs and a peak are known, with ``mfu_of`` naming what
        it is a share of (Chowdhery et al. 2022, "PaLM", appendix B: FLOPs that the model needs, recomputation left out)."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        found: dict[str, Any] = {"tokens_per_second": round(self.tokens / seconds, 3)}
        found[f"trained_{unit}_per_second"] = round(self.trained / seconds, 3)
        if peak and self.flops:
            found |= {"mfu": round(self.flops / seconds / peak.flops, 4), "mfu_of": peak.name}
        return found


def _memory() -> dict[str, float]:
    """The most GPU memory so far, in GiB: what tensors took, and what the allocator held."""
    import torch

    used, held = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    return {"vram_allocated": round(used / 2**30, 2), "vram_reserved": round(held / 2**30, 2)}


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
        self._words: dict[str, str] = {}
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
        """Show the numbers of one log interval; the bar keeps those of the last evaluation."""
        words = {SHOWN[name]: f"{value:.4g}" for name, value in numbers.items() if name in SHOWN}
        speed = f"{tokens_per_second:,.0f} tokens/s"
        if self._bar:
            self._words |= words
            self._bar.update(self._task, numbers=_line(self._words, speed))
        elif not self._quiet:
            print(f"step {step}/{self._total}  {_line(words, speed)}  {clock(left)} left", file=sys.stderr, flush=True)


def _line(words: Mapping[str, str], speed: str) -> str:
    return "  ".join([*(f"{name} {value}" for name, value in words.items()), speed])
