"""Training on an NVIDIA GPU: first whether it is right, then how fast, up a ladder and against Trainer and TRL.

    python benchmarks/gpu.py [--write]                          everything, some hours on one GPU
    python benchmarks/gpu.py --only "1.5B full 4096,7B lora"    the runs whose names hold all words of one group
    python benchmarks/gpu.py --list                             which runs there are

Models have the shapes of Qwen2.5 and random weights, made on the GPU; examples are of random ids and of lengths as in real
chats, two thirds of each trained. All sides train the same examples in the same steps; the losses of the first step are
compared. MFU counts the FLOPs that the model needs (attention causal, the head where a label is, no recomputation), as a
share of 989 TFLOP/s (the data sheet of H100 and H200, dense bfloat16) and of 790 (the best that matrix products reach there).
Results are kept in a JSON file after each run, so that several calls with ``--only`` fill one table. Exit status 2 without a
GPU, 1 where a check has failed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.gpu_cells import Cell, cells, why_not
from benchmarks.gpu_table import BEGIN, END, checks_table, table

RESULTS = Path(__file__).parent / "RESULTS.md"


def main() -> int:
    """Check, measure, print and keep the tables; the exit status."""
    options = arguments()
    if options.cell:
        print(json.dumps(one_run(Cell(**json.loads(options.cell)))))
        return 0
    import torch

    if options.device == "cuda" and not torch.cuda.is_available() and not options.list:
        print("there is no NVIDIA GPU here that torch can use: nothing was measured", file=sys.stderr)
        return 2
    attention = options.attention or ("flash_attention_2" if find_spec("flash_attn") else "sdpa")
    few: dict[str, Any] = {}
    if options.tiny:
        few = {"shapes": ("tiny",), "lengths": (64,), "ladder_at": 64, "places": 128}
    chosen = list(cells(options.only, steps=options.steps, attention=attention, device=options.device, **few))
    if options.list:
        print("\n".join(cell.name for cell in chosen))
        return 0
    kept = json.loads(options.json.read_text("utf-8")) if options.json.is_file() else {"checks": [], "runs": {}}
    kept["device"] = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    kept["packages"] = {"torch": torch.__version__, "attention": attention}
    passed = True
    if not options.no_checks:
        passed = checked(options, attention, kept)
    if passed:
        run_all(chosen, options, kept)
    lines = [*checks_table(kept["checks"]), "", *table(kept["runs"])]
    print("\n".join(lines))
    if options.write:
        write(lines)
    return 0 if passed else 1


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="groups with commas, a group's words with spaces")
    parser.add_argument("--steps", type=int, default=8, help="counted ones of each run")
    parser.add_argument("--attention", help="of the model: flash_attention_2 where flash-attn is installed, else sdpa")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no further run after so many")
    parser.add_argument("--list", action="store_true", help="name the runs, make none")
    parser.add_argument("--no-checks", action="store_true", help="they were made before")
    parser.add_argument("--again", action="store_true", help="make runs anew that the JSON file has")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"))
    parser.add_argument("--write", action="store_true", help=f"put the tables into {RESULTS.name}")
    parser.add_argument("--device", default="cuda", help=argparse.SUPPRESS)
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    return parser.parse_args()


def checked(options: argparse.Namespace, attention: str, kept: dict[str, Any]) -> bool:
    """Make the checks; whether all have passed."""
    from benchmarks.gpu_checks import checks

    found = checks(options.device, attention, shape="tiny" if options.tiny else "0.5B")
    kept["checks"] = [asdict(check) for check in found]
    keep(options.json, kept)
    for check in found:
        print(f"{'ok    ' if check.passed else 'FAILED'} {check.name}: {check.told}", file=sys.stderr, flush=True)
    return all(check.passed for check in found)


def run_all(chosen: list[Cell], options: argparse.Namespace, kept: dict[str, Any]) -> None:
    """Each run in a process of its own; what does not fit is tried with half the rows."""
    import torch

    memory = torch.cuda.get_device_properties(0).total_memory if options.device == "cuda" else 1 << 40
    installed = {library: find_spec(library) is not None for library in ("trl", "transformers")}
    began = time.monotonic()
    for cell in chosen:
        if cell.name in kept["runs"] and "skipped" not in kept["runs"][cell.name] and not options.again:
            continue
        if time.monotonic() - began > options.minutes * 60:
            print(f"{options.minutes:g} minutes are over; left out from {cell.name} on", file=sys.stderr)
            return
        reason = why_not(cell, memory, installed)
        found: dict[str, Any] = {"skipped": reason} if reason else attempt(cell)
        kept["runs"][cell.name] = {**asdict(cell), **found}
        keep(options.json, kept)
        print(
            cell.name,
            found.get("skipped") or f"{found['tokens_per_second']:,.0f} tokens/s",
            file=sys.stderr,
            flush=True,
        )


def attempt(cell: Cell) -> dict[str, Any]:
    """The numbers of a run, or why there are none."""
    tried: Cell | None = cell
    while tried is not None:
        command = [sys.executable, __file__, "--cell", json.dumps(asdict(tried))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
            return {"skipped": f"failed: {lines[-1][:300]}"}
        found = dict(json.loads(done.stdout.splitlines()[-1]))
        if not found.get("out_of_memory"):
            return found
        tried = tried.smaller()
    return {"skipped": f"out of memory with one row of {cell.length} tokens"}


def one_run(cell: Cell) -> dict[str, Any]:
    """In the child: the numbers, or that memory did not suffice."""
    import torch

    from benchmarks.gpu_sides import measure

    try:
        return measure(cell)
    except torch.OutOfMemoryError:
        return {"out_of_memory": True}


def keep(path: Path, kept: dict[str, Any]) -> None:
    """Write the JSON file whole."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(kept, indent=1), "utf-8")
    part.replace(path)


def write(lines: list[str]) -> None:
    """Put the tables between their marks in the results, which must be there."""
    text = RESULTS.read_text("utf-8")
    before, found, rest = text.partition(BEGIN)
    _, also, after = rest.partition(END)
    if not (found and also):
        raise SystemExit(f"{RESULTS} has no lines {BEGIN} and {END}")
    RESULTS.write_text("\n".join([before + BEGIN, *lines, END + after]), "utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
