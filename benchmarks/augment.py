"""datakit augment against the fault server: throughput, rate limits, faults, kills, and memory, as one run of the command each.

    python benchmarks/augment.py                          all but the long ones, about six minutes
    python benchmarks/augment.py --only memory            1,000 and 200,000 requests, about ten minutes
    python benchmarks/augment.py --only throughput,caps

The server (tests/datakit/faults) runs in a process of its own on the same machine. Speed is requests answered between
the first request that the server saw and the last answer it gave; "command" is the wall clock of the whole command, the
start of Python, the filters and the files included. CPU is the client's alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.memory import Watch

REPO = Path(__file__).parents[1]
KILLS = 20


@dataclass(frozen=True)
class Ran:
    """One run of the command: its exit code, its ``--json`` (empty where it gave none), seconds, CPU seconds, bytes."""

    code: int
    told: dict[str, Any]
    seconds: float
    cpu: float
    peak: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="throughput,caps,faults,kills", help=f"of {', '.join(PARTS)}; with commas")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the throughput tests go on at full speed")
    parser.add_argument("--work", type=Path, help="folder for the files; they are removed")
    chosen = parser.parse_args()
    for name in chosen.only.split(","):
        with tempfile.TemporaryDirectory(dir=chosen.work) as folder:
            PARTS[name](Path(folder), chosen)


def throughput(folder: Path, chosen: argparse.Namespace) -> None:
    """One second to each answer, and so many workers."""
    for workers in (128, 512):
        count = int(workers * chosen.seconds)
        with server("latency1s") as url:
            ran = augment(folder / f"{workers}", url, count, "--workers", str(workers))
            stats = stats_of(url)
        span = stats["last_s"] - stats["first_s"]
        share = stats["answered"] / span / workers
        print(
            f"{workers} workers, {count:,} requests: {stats['answered'] / span:.1f}/s = {share:.3f} of {workers}/s; "
            f"{1000 * ran.cpu / count:.2f} ms of CPU a request; command {ran.seconds:.1f} s; {ran.peak / 1e6:.0f} MB",
            flush=True,
        )


def memory(folder: Path, chosen: argparse.Namespace) -> None:
    """The same with few and with many requests."""
    for count in (1_000, 200_000):
        with server("honest") as url:
            ran = augment(folder / f"{count}", url, count, "--workers", "64")
            stats = stats_of(url)
        print(
            f"{count:,} requests: {ran.peak / 1e6:.0f} MB; {stats['answered'] / (stats['last_s'] - stats['first_s']):.0f}/s, "
            f"{1000 * ran.cpu / count:.2f} ms of CPU a request, command {ran.seconds:.1f} s, "
            f"{ran.told['rows_out']:,} rows out",
            flush=True,
        )


def caps(folder: Path, chosen: argparse.Namespace) -> None:
    """400 rows at 20 a second (the floor is 19 s), in five spellings, and at 5 a second."""
    for scenario, count in (
        ("cap20", 400), ("cap20_fixed", 400), ("cap20_bucket", 400), ("cap20_headers", 400), ("cap20_harsh", 400), ("cap5", 100),
    ):  # fmt: skip
        with server(scenario) as url:
            ran = augment(folder / scenario, url, count)
            stats = stats_of(url)
        print(
            f"{scenario}, {count} rows: {stats['last_s'] - stats['first_s']:.1f} s (command {ran.seconds:.1f} s), "
            f"{stats['by_status'].get('429', 0)} refused for now, {ran.told['rows_out']} rows out, exit {ran.code}",
            flush=True,
        )


def faults(folder: Path, chosen: argparse.Namespace) -> None:
    """A fifth of all requests fails, each in another way; and one row that is always refused."""
    for scenario, count in (("honest", 400), ("mixed20", 400), ("poison", 50)):
        with server(scenario, "--latency", "0.5") as url:
            # Some of the faults are answers that never come.
            ran = augment(folder / scenario, url, count, "--timeout", "3", "--workers", "64")
            stats = stats_of(url)
        print(
            f"{scenario}, {count} rows: {stats['last_s'] - stats['first_s']:.1f} s, {stats['requests']} requests, "
            f"{stats['by_status']}, {ran.told['rows_out']} rows out, {sum(ran.told['rejected'].values())} rejected, exit {ran.code}",
            flush=True,
        )


def kills(folder: Path, chosen: argparse.Namespace) -> None:
    """Killed at random moments, then to the end, then once more."""
    dice = random.Random(7)
    count, workers = 2_000, 32
    with server("latency_tail", "--latency", "0.3") as url:
        arguments = command(folder / "k", url, count, "--workers", str(workers))
        for _ in range(KILLS):
            process = subprocess.Popen(
                arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
            )
            time.sleep(dice.uniform(0.8, 2.5))
            process.send_signal(signal.SIGKILL)
            process.wait()
        first = augment(folder / "k", url, count, "--workers", str(workers))
        stats = stats_of(url)
        again = augment(folder / "k", url, count, "--workers", str(workers))
        after = stats_of(url)
    rows = (folder / "k" / "rows.jsonl").read_text().splitlines()
    seeds = [json.loads(row)["_origin"]["seed_row"] for row in rows]
    print(
        f"killed {KILLS} times: {stats['requests']} requests for {count} answers, {stats['answered'] - count} answered again "
        f"(at most {KILLS} x {workers} were on their way), {len(rows)} rows, {len(set(seeds))} of different seeds, "
        f"exit {first.code}; a further run: {after['requests'] - stats['requests']} requests, exit {again.code}",
        flush=True,
    )


PARTS = {"throughput": throughput, "caps": caps, "faults": faults, "kills": kills, "memory": memory}


@contextmanager
def server(scenario: str, *options: str) -> Iterator[str]:
    """The fault server in a process of its own; yields the address to ask."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.datakit.faults.server", "--scenario", scenario, "--port", "0", *options],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=REPO,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield next(word for word in process.stdout.readline().split() if word.startswith("http"))
    finally:
        process.kill()
        process.wait()


def stats_of(url: str) -> dict[str, Any]:
    """What the server saw."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/_stats") as reply:
        return json.load(reply)


def environment() -> dict[str, str]:
    return {**os.environ, "OPENAI_API_KEY": "none", "PYTHONPATH": str(REPO)}


def command(folder: Path, url: str, count: int, *options: str) -> list[str]:
    """One call for each of so many rows, which have a question and no answer."""
    folder.mkdir(exist_ok=True)
    seeds = folder / "seeds.jsonl"
    if not seeds.exists():
        rows = (
            json.dumps(
                {"instruction": f"How does lock number {n} of the canal {'poison the fish' if n == 7 else 'work'}?"}
            )
            for n in range(count)
        )
        seeds.write_text("\n".join(rows) + "\n")
    wanted = ["--recipe", "answer", "--model", "m", "--base-url", url, "--json", "--quiet"]
    return [
        sys.executable,
        "-m",
        "datakit.cli",
        "augment",
        str(seeds),
        "-o",
        str(folder / "rows.jsonl"),
        *wanted,
        *options,
    ]


def augment(folder: Path, url: str, count: int, *options: str) -> Ran:
    """Run the command to its end."""
    started = time.monotonic()
    process = subprocess.Popen(
        command(folder, url, count, *options), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment()
    )
    watch = Watch(process.pid)
    assert process.stdout is not None
    told = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    watch.stop()
    code = os.waitstatus_to_exitcode(status)
    return Ran(
        code,
        json.loads(told) if told.strip() else {},
        time.monotonic() - started,
        usage.ru_utime + usage.ru_stime,
        watch.peak,
    )


if __name__ == "__main__":
    main()
