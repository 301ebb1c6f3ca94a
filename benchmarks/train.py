"""Training steps of ours against transformers' Trainer set up as LLaMA-Factory sets it up, and against TRL, on the CPU.

    python benchmarks/train.py [--jobs sft-large,dpo-large] [--data FOLDER] [--tokenizer FOLDER] [--write]
    python benchmarks/train.py --quick                  every cell once, three steps: does it all work?

Same rows in the same order, same weights, same loss: the losses of all sides in float32 must agree to 1e-4 (dpo: 1e-3) at
every step, or the run ends. Each side is a process of its own, the sides take turns, and each step's median over the rounds counts. Speed is
tokens of text a second, no padding among them; a step lasts from the end of one to the end of the next, with batches, loss
and log. What dpo measures once, before its first step, is shared out among the steps of its one epoch. Memory is the peak
above the level before the model is loaded. To be run on an idle machine: a second process makes two threads wait for each
other. ``--data`` is a folder with LLaMA-Factory's demonstration sets; without it rows are of invented words.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.process import Measured
from benchmarks.train_job import JOBS, WARM, Job, prepare

OURS = "trainkit"
SIDES = {
    OURS: "trainkit",
    "trainer": "Trainer as LLaMA-Factory",
    "kept": "the same, nothing recomputed",
    "trl": "TRL",
}
TRAINERS = ("trainer", "kept")
AGREE = 1e-4  # of losses, relative
AGREE_DPO = 1e-3  # there a loss is a difference of sums of hundreds of nats, each rounded to single precision
RESULTS = Path(__file__).parent / "RESULTS.md"
BEGIN, END = "<!-- benchmarks/train.py -->", "<!-- end of benchmarks/train.py -->"


@dataclass(frozen=True)
class Cell:
    """One side of a job: seconds of a step (the median of each, then their mean), with the share of what was computed once;
    tokens of text a second; the peak in bytes; the loss of each step."""

    side: str
    seconds: float
    once: float
    tokens_per_second: float
    peak: int
    losses: list[float]


def main() -> None:
    """Measure the jobs, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", default=",".join(JOBS), help=f"with commas; all: {', '.join(JOBS)}")
    parser.add_argument("--sides", default=",".join(SIDES), help=f"with commas; all: {', '.join(SIDES)}")
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12, help=f"of each run, the first {WARM} not counted")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: of a busy machine, with one thread"
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument(
        "--quick", action="store_true", help="one round of three steps: the cells work, the numbers mean nothing"
    )
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--write", action="store_true", help=f"put the table into {RESULTS.name}")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measurer(options.side)(options.folder).as_json()))
        return
    if options.quick:
        options.rounds, options.steps = 1, WARM + 1
    lines, numbers = list(HEAD), []
    for line in HEAD:
        print(line)
    for name in options.jobs.split(","):
        for precision in options.precisions.split(","):
            cells = measured(JOBS[name], precision, options)
            for line in table(JOBS[name], precision, cells):
                print(line, flush=True)
                lines.append(line)
            numbers += [{"job": name, "precision": precision, **asdict(cell)} for cell in cells]
    if "bf16" in options.precisions and not has_amx():
        lines.append("\nThis CPU has no AMX, so bf16 saves no time here.")
        print(lines[-1])
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=1), "utf-8")
    if options.write:
        write(lines)


def measurer(side: str) -> Callable[[Path], Measured]:
    """The function that trains as a side does."""
    if side == OURS:
        from benchmarks.train_ours import measure as ours

        return ours
    if side == "trl":
        from benchmarks.train_trl import measure as trl

        return trl
    from benchmarks.train_trainer import measure

    return lambda folder: measure(folder, recompute=side == "trainer")


def sides_of(precision: str, asked: str) -> list[str]:
    """Who takes part: TRL where it is installed, and in float32 only."""
    from importlib.util import find_spec

    chosen = [side for side in SIDES if side in asked.split(",")]
    if "trl" in chosen and (precision == "bf16" or not find_spec("trl")):
        chosen.remove("trl")
    return chosen


def measured(job: Job, precision: str, options: argparse.Namespace) -> list[Cell]:
    """The sides of one job, interleaved."""
    sides = sides_of(precision, options.sides)
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokens = prepare(
            folder, job, steps=options.steps, bf16=precision == "bf16", data=options.data, tokenizer=options.tokenizer
        )
        for _ in range(options.rounds):
            for side in sides:
                runs[side].append(run_side(side, folder, options.threads))
    cells = [cell_of(side, found, tokens, options.clock) for side, found in runs.items()]
    if precision == "fp32":
        check_losses(job, cells)
    return cells


def run_side(side: str, folder: Path, threads: int) -> dict[str, Any]:
    """One run in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--folder", str(folder)]
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads), "TUNEKIT_CACHE": str(folder / "cache"), "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    # what was measured once is kept by content, and each round is to measure it
    for kept in (folder / "cache").glob("reference/*"):
        kept.unlink()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{SIDES[side]} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def cell_of(side: str, runs: list[dict[str, Any]], tokens: int, clock: str) -> Cell:
    """A side's numbers over its rounds."""
    key, once_key = ("seconds", "once_s") if clock == "wall" else ("cpu_seconds", "once_cpu_s")
    each = [statistics.median(times) for times in zip(*(run[key] for run in runs), strict=True)]
    once = statistics.median(run[once_key] for run in runs) / len(each)
    each = each[WARM:]
    seconds = sum(each) / len(each) + once
    peak = int(statistics.median(run["peak"] for run in runs))
    return Cell(side, seconds, once, tokens / len(each) / seconds, peak, runs[0]["losses"])


def check_losses(job: Job, cells: list[Cell]) -> None:
    """Raise ``SystemExit`` where the sides did not train the same."""
    for cell in cells[1:]:
        apart = difference(cells[0], cell)
        if apart > (AGREE_DPO if job.stage == "dpo" else AGREE):
            raise SystemExit(
                f"{job.title}: the losses of {SIDES[cell.side]} differ from {SIDES[cells[0].side]}'s by {apart:.1e}:\n"
                f"{cell.losses}\n{cells[0].losses}"
            )


def difference(one: Cell, other: Cell) -> float:
    """The largest relative difference of two sides' losses."""
    return max(abs(a - b) / abs(a) for a, b in zip(one.losses, other.losses, strict=True))


HEAD = (
    "| job | | side | seconds a step | tokens of text/s | peak memory | ours against it | of its memory | floors | |",
    "|---|---|---|---|---|---|---|---|---|---|",
)


def table(job: Job, precision: str, cells: list[Cell]) -> list[str]:
    """The lines of a job: ours first, with the floors and whether they are met. They go by the quicker Trainer, its speed and
    its memory, in float32."""
    ours, theirs = next((c for c in cells if c.side == OURS), None), [c for c in cells if c.side in TRAINERS]
    told = passed = ""
    if ours and theirs and precision == "fp32":
        best = max(theirs, key=lambda cell: cell.tokens_per_second)
        speed, memory = ours.tokens_per_second / best.tokens_per_second, ours.peak / best.peak
        told = f"{f'{job.floor}×, ' if job.floor else ''}memory {job.memory}×"
        passed = "met" if speed >= (job.floor or 0) and memory <= job.memory else "**missed**"
    lines = []
    for number, cell in enumerate(cells):
        words = [job.title if number == 0 else "", precision if number == 0 else "", SIDES[cell.side]]
        words += [f"{cell.seconds:.3f}", f"{cell.tokens_per_second:,.0f}", f"{cell.peak / 1e6:,.0f} MB"]
        against = ours is not None and cell is not ours
        words += [f"**{ours.tokens_per_second / cell.tokens_per_second:.2f}×**" if against and ours else ""]
        words += [f"{ours.peak / cell.peak:.2f}×" if against and ours else ""]
        words += [told, passed] if cell is ours else ["", ""]
        lines.append("| " + " | ".join(words) + " |")
    return lines


def has_amx() -> bool:
    """Whether the CPU multiplies matrices of bfloat16 by itself."""
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and "amx_bf16" in flags.read_text()


def write(lines: list[str]) -> None:
    """Put the table between its marks in the results, which must be there."""
    text = RESULTS.read_text("utf-8")
    before, found, rest = text.partition(BEGIN)
    _, also, after = rest.partition(END)
    if not (found and also):
        raise SystemExit(f"{RESULTS} has no lines {BEGIN} and {END}")
    RESULTS.write_text("\n".join([before + BEGIN, *lines, END + after]), "utf-8")


if __name__ == "__main__":
    main()
