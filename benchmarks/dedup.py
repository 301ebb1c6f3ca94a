"""datakit dedup on rows with planted duplicates: what it finds, how much of that is right, how fast, in how much memory.

    python benchmarks/dedup.py [--rows 100000] [--planted 5000] [--near 0.8]     near duplicates
    python benchmarks/dedup.py --exact-rows 10000000                             exact ones; the file is made on the fly

The near copies are rows with one to four words changed, left out or put in; the similarity that counts as true is
worked out here, with sets of words, and not by the code under test. Memory is that of all processes together.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.memory import Watch
from benchmarks.rows import HAN, alpaca

REPO = Path(__file__).parents[1]
TEXTS = ("instruction", "input", "output")
LEAST_WORDS = 40  # of a row that is copied: with fewer, one edit makes it another row
MOST_EDITS = 4
REPEAT_EVERY = 10  # of the rows of the exact test, one in so many repeats an earlier one
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+")


@dataclass(frozen=True)
class Ran:
    """One run of the command: its ``--json``, seconds of wall clock, and the peak memory of its processes in bytes."""

    told: dict[str, Any]
    seconds: float
    peak: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--planted", type=int, default=5_000)
    parser.add_argument("--near", type=float, default=0.8)
    parser.add_argument("--exact-rows", type=int, help="run the exact test on so many rows instead")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder for the files; they are removed")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.work) as name:
        if chosen.exact_rows:
            exact(Path(name), chosen.exact_rows, chosen.workers)
        else:
            near(Path(name), chosen.rows, chosen.planted, chosen.near, chosen.workers)


def near(folder: Path, rows: int, planted: int, threshold: float, workers: int) -> None:
    """Plant near copies, have them found, and compare."""
    made, pairs = with_copies(rows, planted, random.Random(1))
    source = folder / "rows.jsonl"
    source.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in made))
    ran = run([str(source), "-o", str(folder / "out.jsonl"), "--near", str(threshold)], workers)
    by_number = dict(enumerate(made, start=1))
    dropped = [
        (fault["row"], fault["kept"]["row"])
        for fault in map(orjson.loads, (folder / "out.jsonl.rejects.jsonl").open("rb"))
        if fault["reason"] == "near duplicate"
    ]
    families = {frozenset((by_number[row]["id"], by_number[kept]["id"])) for row, kept in dropped}
    truly = [pair for pair in pairs if similarity(*(pairs[pair])) >= threshold]
    right = sum(similarity(by_number[row], by_number[kept]) >= threshold for row, kept in dropped)
    found_true, found = sum(pair in families for pair in truly), sum(pair in families for pair in pairs)
    told = ran.told["near"]
    print(f"rows {rows:,}, planted near copies {len(pairs):,}, of which {len(truly):,} at {threshold:g} or more")
    print(
        f"{told['permutations']} permutations in {told['bands']} bands of {told['rows_a_band']}, n-grams of {told['ngram']}"
    )
    print(f"recall at {threshold:g} or more: {found_true / len(truly):.4f} ({found_true:,} of {len(truly):,})")
    print(f"recall of all planted:   {found / len(pairs):.4f} ({found:,} of {len(pairs):,})")
    print(f"precision: {right / len(dropped):.4f} ({right:,} of {len(dropped):,} dropped for a row that is as similar)")
    tell_cost(ran, rows, source)


def exact(folder: Path, rows: int, workers: int) -> None:
    """Rows of which every tenth repeats an earlier one in other letters and spaces."""
    source = folder / "rows.jsonl"
    with source.open("wb") as handle:
        for block in repeating_rows(rows):
            handle.write(block)
    ran = run([str(source), "-o", str(folder / "out.jsonl")], workers)
    expected = rows // REPEAT_EVERY
    dropped = ran.told["filtered"].get("exact duplicate", 0)
    print(f"rows {rows:,}, repeated {expected:,}, dropped {dropped:,}: {'all' if dropped == expected else 'NOT ALL'}")
    print(f"table: {ran.told['memory']['exact_bytes'] / 1e6:,.0f} MB")
    tell_cost(ran, rows, source)


def tell_cost(ran: Ran, rows: int, source: Path) -> None:
    """Speed and memory."""
    size = source.stat().st_size
    print(
        f"{rows / ran.seconds:,.0f} rows/s, {size / ran.seconds / 1e6:,.0f} MB/s ({size / rows:,.0f} bytes a row), ",
        end="",
    )
    print(f"{ran.seconds:.1f} s with {os.cpu_count()} cores")
    print(f"peak memory of all processes: {ran.peak / 1e6:,.0f} MB")


def with_copies(
    rows: int, planted: int, rng: random.Random
) -> tuple[list[dict[str, Any]], dict[frozenset[int], tuple[dict[str, Any], dict[str, Any]]]]:
    """Rows in a random order, and by the ids of both the pairs of a row and its near copy."""
    made = list(alpaca(rows - planted))
    long_enough = [row for row in made if len(words(row["output"])) >= LEAST_WORDS]
    pairs = {}
    for number, row in enumerate(rng.sample(long_enough, planted), start=len(made)):
        copy = row | {"id": number, "output": edited(row["output"], rng)}
        pairs[frozenset((row["id"], number))] = (row, copy)
        made.append(copy)
    rng.shuffle(made)
    return made, pairs


def edited(text: str, rng: random.Random) -> str:
    """``text`` with one to four words (of Chinese: characters) changed, left out or put in."""
    han = text[0] in HAN
    parts = list(text) if han else text.split(" ")
    for _ in range(rng.randint(1, MOST_EDITS)):
        at = rng.randrange(len(parts))
        new = rng.choice(HAN) if han else "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=6))
        parts[at : at + rng.randint(0, 1)] = rng.choice(([new], [], [new]))
    return ("" if han else " ").join(parts)


def similarity(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The Jaccard similarity of the sets of runs of three words, of no text into the next."""
    left, right = runs_of_three(one), runs_of_three(other)
    return len(left & right) / len(left | right)


def runs_of_three(row: dict[str, Any]) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for name in TEXTS:
        those = words(row[name])
        found.update(zip(those, those[1:], those[2:], strict=False) if len(those) > 2 else [tuple(those)] * bool(those))
    return found


def words(text: str) -> list[str]:
    """Words, and single Chinese characters."""
    return _WORD.findall(text.lower())


def repeating_rows(rows: int) -> Iterator[bytes]:
    """Lines of JSON in blocks, about 230 bytes each; every tenth is an earlier one, in capitals and with wider spaces."""
    texts = [row["output"][:120].replace("\n", " ").replace('"', "").encode() for row in alpaca(2_000)]
    for start in range(0, rows, 10_000):
        lines = []
        for number in range(start, min(start + 10_000, rows)):
            repeats = number % REPEAT_EVERY == REPEAT_EVERY - 1
            own = (number * 2654435761 >> 7) % number if repeats else number
            own -= own % REPEAT_EVERY == REPEAT_EVERY - 1
            said = texts[own % len(texts)]
            line = b'{"instruction":"what about number %d","input":"","output":"%b"}\n' % (own, said)
            if repeats:
                line = b'{"output":"  %b ","instruction":"What ABOUT  number %d","input":" "}\n' % (said.upper(), own)
            lines.append(line)
        yield b"".join(lines)


def run(arguments: list[str], workers: int) -> Ran:
    """``datakit dedup`` in a process of its own."""
    command = [sys.executable, "-m", "datakit.cli", "dedup", *arguments, "--json", "--workers", str(workers)]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(REPO)}, text=True)
    watch = Watch(process.pid)
    out, _ = process.communicate()
    seconds = time.perf_counter() - started
    watch.stop()
    if process.returncode:
        sys.exit(f"datakit dedup ended with {process.returncode}")
    return Ran(json.loads(out), seconds, watch.peak)


if __name__ == "__main__":
    main()
