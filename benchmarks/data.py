"""The data commands against public tools: speed as ratios in one run, peak memory, and memory at more rows.

    python benchmarks/data.py --tokenizer FOLDER [--rows 1000000] [--chats 200000] [--repeat 3] [--grow 4,8]
                              [--only convert] [--work FOLDER] [--write]

Each side is a process of its own; the sides of a job take turns, and medians count. What takes over a minute runs once.
``--write`` puts the tables into benchmarks/RESULTS.md. Tools that are not installed (duckdb, datasets) are left out.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import rows as made_rows
from benchmarks.memory import Watch

OURS = "datakit"
REPO = Path(__file__).parents[1]
RESULTS = REPO / "benchmarks" / "RESULTS.md"
DATAKIT = [sys.executable, "-m", "datakit.cli"]

# name of a side -> what a process of it runs; {src} and {out} are filled in
POLARS_SINK = "import polars as pl; pl.scan_parquet({src!r}).sink_ndjson({out!r})"
DUCKDB_COPY = "import duckdb; duckdb.sql('''COPY (FROM {src!r}) TO {out!r} (FORMAT json)''')"
DATASETS = (
    "import datasets; datasets.disable_progress_bars(); "
    "datasets.Dataset.from_parquet({src!r}, cache_dir={out!r} + '.cache').to_json({out!r})"
)
ARROW_LOOP = """
import orjson, pyarrow.parquet as pq
with open({out!r}, "wb") as out:
    for batch in pq.ParquetFile({src!r}, pre_buffer=False).iter_batches():
        for row in batch.to_pylist():
            out.write(orjson.dumps(row) + b"\\n")
"""
ARROW_TURNS = """
import orjson, pyarrow.parquet as pq
with open({out!r}, "wb") as out:
    for batch in pq.ParquetFile({src!r}, pre_buffer=False).iter_batches():
        for row in batch.to_pylist():
            question = "\\n".join(part for part in (row["instruction"], row["input"]) if part)
            turns = [{{"from": "human", "value": question}}, {{"from": "gpt", "value": row["output"]}}]
            out.write(orjson.dumps({{"conversations": turns}}) + b"\\n")
"""
DECODE_LOOP = """
import orjson
for line in open({src!r}, "rb"):
    orjson.loads(line)
"""
TOKENIZERS = """
import orjson
from itertools import islice
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_file({tokenizer!r} + "/tokenizer.json")
with open({src!r}, "rb") as lines:
    while batch := [orjson.loads(line) for line in islice(lines, 512)]:
        texts = [row["instruction"] + "\\n" + row["input"] for row in batch] + [row["output"] for row in batch]
        tokenizer.encode_batch_fast(texts, add_special_tokens=False)
"""
# LLaMA-Factory 0.9.5 turns each side of a turn into ids by a call of its own (data/template.py), in one process
# unless preprocessing_num_workers says otherwise.
ONE_BY_ONE = """
import orjson
from transformers import PreTrainedTokenizerFast
tokenizer = PreTrainedTokenizerFast(tokenizer_file={tokenizer!r} + "/tokenizer.json")
for line in open({src!r}, "rb"):
    row = orjson.loads(line)
    asked = "<|im_start|>user\\n" + row["instruction"] + "\\n" + row["input"] + "<|im_end|>\\n<|im_start|>assistant\\n"
    tokenizer.encode(asked, add_special_tokens=False)
    tokenizer.encode(row["output"] + "<|im_end|>\\n", add_special_tokens=False)
"""
LONG = 60  # seconds; a side that takes longer runs once


@dataclass(frozen=True)
class Job:
    """One thing to be done by several sides; ``floor`` is the least ratio of the first other side's time to ours."""

    name: str
    source: Path
    rows: int
    sides: dict[str, list[str]]
    floor: float | None = None


@dataclass(frozen=True)
class Run:
    """What one process took."""

    seconds: float
    peak_mb: float


def script(text: str) -> list[str]:
    """A side that is a few lines of Python."""
    return [sys.executable, "-c", text]


def make(folder: Path, kind: str, rows: int) -> tuple[Path, Path]:
    """The rows as Parquet and as JSON lines, made by a process of its own: a child counts its parent's peak as its own."""
    code = "import sys; from pathlib import Path; from benchmarks.rows import make; make(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))"
    subprocess.run([sys.executable, "-c", code, str(folder), kind, str(rows)], check=True, cwd=REPO)
    return made_rows.files_of(folder, kind, rows)


def jobs_of(options: argparse.Namespace) -> Iterator[Job]:
    """Every job, its input made just before it."""
    work = options.work
    parquet, lines = make(work, "alpaca", options.rows)
    nested, nested_lines = make(work, "chats", options.chats)
    yield Job("convert", parquet, options.rows, convert_sides([]), 0.65)
    to_sharegpt = {OURS: [*DATAKIT, "convert", "{src}", "-o", "{out}", "--to", "sharegpt", "-q"]}
    yield Job(
        "convert to sharegpt", parquet, options.rows, to_sharegpt | {"pyarrow + orjson": script(ARROW_TURNS)}, 2.0
    )
    yield Job("convert nested chats", nested, options.chats, convert_sides([]))
    decode = {"orjson, decoding only": script(DECODE_LOOP)}
    structure = {OURS: [*DATAKIT, "validate", "{src}", "--stage", "sft", "--no-text", "-q"]}
    everything = {OURS: [*DATAKIT, "validate", "{src}", "--stage", "sft", "-q"]}
    yield Job("validate, structure rules", lines, options.rows, structure | decode, 0.6)
    yield Job("validate, all rules", lines, options.rows, everything | decode)
    yield Job("validate nested chats, structure rules", nested_lines, options.chats, structure | decode)
    if options.tokenizer:
        _, some = make(work, "alpaca", 200_000)
        stats = [*DATAKIT, "stats", "{src}", "--model", options.tokenizer, "--template", "qwen", "-q"]
        others = {"as LLaMA-Factory, text by text": ONE_BY_ONE, "tokenizers.encode_batch_fast": TOKENIZERS}
        sides = {name: script(text.replace("{tokenizer!r}", repr(options.tokenizer))) for name, text in others.items()}
        yield Job("stats, Qwen's tokenizer", some, 200_000, {OURS: stats} | sides, 15)


def convert_sides(more: Sequence[str]) -> dict[str, list[str]]:
    """Parquet to JSON lines, ours and whatever else is installed."""
    sides = {OURS: [*DATAKIT, "convert", "{src}", "-o", "{out}", "-q", *more]}
    others = {"polars": POLARS_SINK, "duckdb": DUCKDB_COPY, "pyarrow": ARROW_LOOP, "datasets": DATASETS}
    names = {"polars": "polars sink_ndjson", "duckdb": "duckdb COPY", "pyarrow": "pyarrow + orjson"}
    return sides | {names.get(m, m): script(text) for m, text in others.items() if find_spec(m)}


def run_once(command: Sequence[str], source: Path, out: Path, *, keep: bool = False) -> Run:
    """Run one side; its wall time and the most memory that all its processes held. What it wrote is removed unless it is
    to be kept. Raises ``SystemExit`` where it fails."""
    spelled = []
    for word in command:
        for name, value in (("src", source), ("out", out)):
            word = word.replace("{" + name + "!r}", repr(str(value))).replace("{" + name + "}", str(value))
        spelled.append(word.replace("{{", "{").replace("}}", "}"))
    began = time.perf_counter()
    process = subprocess.Popen(spelled, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    watch = Watch(process.pid)
    told = process.stderr.read() if process.stderr else b""
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    watch.stop()
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        raise SystemExit(f"{' '.join(spelled)[:200]} failed:\n{told.decode(errors='replace')[-2000:]}")
    for path in [] if keep else out.parent.glob(out.name + "*"):
        subprocess.run(["rm", "-rf", str(path)], check=True)
    return Run(seconds, max(usage.ru_maxrss / 1024, watch.peak / 2**20))


def measure(job: Job, repeat: int, out: Path) -> dict[str, Run]:
    """The median time and the highest peak of each side, the sides taking turns."""
    runs: dict[str, list[Run]] = {side: [] for side in job.sides}
    for _ in range(repeat):
        for side, command in job.sides.items():
            if not runs[side] or runs[side][0].seconds < LONG:
                runs[side].append(run_once(command, job.source, out))
    return {
        side: Run(statistics.median(run.seconds for run in found), max(run.peak_mb for run in found))
        for side, found in runs.items()
    }


def table(jobs: Sequence[tuple[Job, dict[str, Run]]]) -> Iterator[str]:
    """Markdown: a line a side, the ratio against ours."""
    yield "| job | side | seconds | rows/s | peak memory | ours against it | floor |"
    yield "|---|---|---|---|---|---|---|"
    for job, runs in jobs:
        for number, (side, run) in enumerate(runs.items()):
            ratio = "" if side == OURS else f"**{run.seconds / runs[OURS].seconds:.2f}×**"
            floor = f"{job.floor}×" if job.floor and number == 1 else ""
            name = f"{job.name}, {job.rows:,} rows" if side == OURS else ""
            yield f"| {name} | {side} | {run.seconds:.2f} | {job.rows / run.seconds:,.0f} | {run.peak_mb:,.0f} MB | {ratio} | {floor} |"


def growth(options: argparse.Namespace, say: Callable[[str], None]) -> Iterator[str]:
    """Our peak memory at more and more rows: the same file once, and under several names."""
    times = [1, *(int(count) for count in options.grow.split(","))]
    names = ["convert", "convert --to sharegpt", "validate --no-text", "validate"]
    peaks: dict[str, list[str]] = {name: [] for name in names}
    made = make(options.work, "alpaca", options.rows)
    for count in times:
        for name in names:
            verb, *flags = name.split()
            source, target = (
                (made[0], ["-o", "{out}"]) if verb == "convert" else (made[1], ["--stage", "sft", "--allow", "RD007"])
            )  # the copies repeat the ids
            links = [options.work / f"copy-{number}{source.suffix}" for number in range(count)]
            for link in links:
                link.unlink(missing_ok=True)
                link.hardlink_to(source)
            command = [*DATAKIT, verb, *map(str, links), *target, *flags, "-q"]
            run = run_once(command, source, options.work / "out.jsonl")
            for link in links:
                link.unlink()
            told = f"{run.peak_mb:,.0f} MB, {run.seconds:.1f} s"
            say(f"{count * options.rows:,} rows, {name}: {told}")
            peaks[name].append(told)
    yield "| peak memory, seconds | " + " | ".join(f"{count * options.rows:,} rows" for count in times) + " |"
    yield "|---" * (len(times) + 1) + "|"
    for name, found in peaks.items():
        yield f"| {name} | {' | '.join(found)} |"


def write_results(lines: Sequence[str], name: str = "benchmarks/data.py") -> None:
    """Put the tables between their marks in RESULTS.md, or at its end."""
    opening, closing = f"<!-- {name} -->", f"<!-- end of {name} -->"
    block = "\n".join((opening, *lines, closing))
    text = RESULTS.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(opening) + ".*?" + re.escape(closing), re.DOTALL)
    text = pattern.sub(lambda _: block, text) if pattern.search(text) else f"{text.rstrip()}\n\n{block}\n"
    RESULTS.write_text(text, encoding="utf-8")


def main() -> None:
    """Measure what was asked for, print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--chats", type=int, default=200_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--grow", default="", help="how many times the rows, with commas, e.g. 4,8")
    parser.add_argument("--only", default="", help="jobs whose name holds this")
    parser.add_argument("--tokenizer", default="", help="folder of Qwen's tokenizer, for stats")
    parser.add_argument("--work", type=Path, default=Path("/tmp/tunekit-bench"))
    parser.add_argument("--write", action="store_true", help="also into benchmarks/RESULTS.md")
    options = parser.parse_args()
    found = []
    for job in jobs_of(options):
        if options.only in job.name:
            found.append((job, measure(job, options.repeat, options.work / "out.jsonl")))
            print("\n".join([*table(found[-1:])][2:]), flush=True)
    lines = [*table(found)]
    if options.grow:
        lines += ["", *growth(options, lambda text: print(text, flush=True))]
    print("\n".join(lines))
    if options.write:
        write_results(lines)


if __name__ == "__main__":
    main()
