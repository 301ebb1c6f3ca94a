"""Encoding for training against LLaMA-Factory's way of doing it: rows a second, peak memory, bytes a token, second runs.

    python benchmarks/encode.py --tokenizer FOLDER [--rows 200000] [--repeat 3] [--alpaca FILE.json] [--work FOLDER] [--write]

Each side is a process of its own, and medians count; their way runs once, on fewer rows. It is: `datasets.map`
over batches of 1,000 rows, and in each row one call of the tokenizer for each slot of the template (data/processor/
supervised.py and data/template.py of 0.9.5), lists of ids, labels and masks kept as Arrow. ``--alpaca`` measures rows
of a file besides the made ones, repeated until there are as many, each with a number in its instruction.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import rows as made_rows
from benchmarks.data import Run, run_once, script, write_results

TRAINKIT = [sys.executable, "-m", "trainkit.cli"]
THEIR_WAY = """
import datasets, json
from transformers import PreTrainedTokenizerFast
datasets.disable_progress_bars()
tokenizer = PreTrainedTokenizerFast(tokenizer_file={tokenizer!r} + "/tokenizer.json")
SYSTEM = "<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n"
def ids(text): return tokenizer.encode(text, add_special_tokens=False)
def turns(row):
    if "conversations" in row:
        said = [turn["value"] for turn in row["conversations"]]
        return list(zip(said[::2], said[1::2]))
    return [("\\n".join(part for part in (row["instruction"], row["input"]) if part), row["output"])]
def encode(rows):
    made = {{"input_ids": [], "attention_mask": [], "labels": []}}
    for number in range(len(rows["id"])):
        row = {{name: values[number] for name, values in rows.items()}}
        all_ids, labels = [], []
        for turn, (asked, said) in enumerate(turns(row)):
            source = (ids(SYSTEM) if turn == 0 else []) + ids(f"<|im_start|>user\\n{{asked}}<|im_end|>\\n<|im_start|>assistant\\n")
            target = ids(f"{{said}}<|im_end|>\\n")
            all_ids += source + target
            labels += [-100] * len(source) + target
        made["input_ids"].append(all_ids[:2048])
        made["labels"].append(labels[:2048])
        made["attention_mask"].append([1] * len(all_ids[:2048]))
    return made
data = datasets.Dataset.from_json({src!r}, cache_dir={out!r} + ".cache")
data.map(encode, batched=True, batch_size=1000, remove_columns=data.column_names, cache_file_name={out!r} + ".arrow")
"""


def main() -> None:
    """Measure, print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokenizer", required=True, help="folder of Qwen's tokenizer")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--their-rows", type=int, default=40_000, help="of these, for the slow side")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--alpaca", type=Path, help="a JSON array of alpaca rows")
    parser.add_argument("--work", type=Path, default=Path("/tmp/tunekit-bench"))
    parser.add_argument("--write", action="store_true", help="also into benchmarks/RESULTS.md")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    sources = {f"made {kind}": made_rows.make(options.work, kind, options.rows)[1] for kind in ("alpaca", "chats")}
    if options.alpaca:
        sources = {"alpaca rows": repeated(options.alpaca, options.rows, options.work)} | sources
    lines = [
        "| rows, Qwen's tokenizer, template qwen | side | seconds | rows/s | peak memory | bytes a token | ours against it |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, source in sources.items():
        for line in measured(name, source, options):
            print(line, flush=True)
            lines.append(line)
    if options.write:
        write_results(lines, "benchmarks/encode.py")


def repeated(source: Path, count: int, work: Path) -> Path:
    """The rows of a file over and over, no two alike."""
    rows, path = json.loads(source.read_text("utf-8")), work / f"repeated-{count}.jsonl"
    with path.open("w", encoding="utf-8") as out:
        for number in range(count):
            row = rows[number % len(rows)]
            again = f" #{number // len(rows)}"
            out.write(
                json.dumps({"id": number, **row, "instruction": row["instruction"] + again}, ensure_ascii=False) + "\n"
            )
    return path


def measured(name: str, source: Path, options: argparse.Namespace) -> Iterator[str]:
    """The lines of one file's table."""
    work: Path = options.work / "encode"
    config = work / "run.yaml"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    keys = {
        "model_name_or_path": options.tokenizer, "stage": "sft", "template": "qwen", "dataset": str(source),
        "cutoff_len": 2048, "cache_path": str(work / "cache"), "output_dir": str(work / "out"),
    }  # fmt: skip
    config.write_text(json.dumps(keys), "utf-8")
    encode = [*TRAINKIT, "encode", str(config), "-o", "{out}", "-q"]
    plan = [*TRAINKIT, "plan", str(config), "-q"]
    first, again, plans = [], [], []
    for _ in range(options.repeat):
        shutil.rmtree(work / "cache", ignore_errors=True)
        first.append(run_once(encode, source, work / "set"))
        again.append(run_once(encode, source, work / "set"))
        plans.append(run_once(plan, source, work / "set"))
    tokens, size = held(work / "cache")
    theirs_out, some = work / "theirs", work / "some.jsonl"
    count = min(options.their_rows, options.rows)
    with source.open("rb") as lines:
        some.write_bytes(b"".join(islice(lines, count)))
    theirs = run_once(script(THEIR_WAY.replace("{tokenizer!r}", repr(options.tokenizer))), some, theirs_out, keep=True)
    pace = (theirs.seconds / count) / (middle(first).seconds / options.rows)
    their_size = sum(path.stat().st_size for path in work.glob("theirs*.arrow"))
    for path in work.glob("theirs*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    ours = middle(first)
    yield row(f"{name}, {options.rows:,}", "trainkit encode", ours, options.rows, size / tokens, None)
    share = count / options.rows
    yield row("", f"LLaMA-Factory's way, {count:,} of them", theirs, count, their_size / tokens / share, pace)
    yield row("", "trainkit encode, again", middle(again), options.rows, None, None)
    yield row("", "trainkit plan, from the cache", middle(plans), options.rows, None, None)


def held(cache: Path) -> tuple[int, int]:
    """Tokens and bytes in the cache."""
    tokens = size = 0
    for journal in cache.glob("*/journal.jsonl"):
        entries = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
        tokens += sum(entry.get("tokens", 0) for entry in entries)
        size += sum(path.stat().st_size for path in journal.parent.iterdir())
    return tokens, size


def middle(runs: list[Run]) -> Run:
    """The median time, the highest peak."""
    return Run(statistics.median(run.seconds for run in runs), max(run.peak_mb for run in runs))


def row(name: str, side: str, run: Run, rows: int, size: float | None, ratio: float | None) -> str:
    """A line of the table."""
    told = "" if size is None else f"{size:.2f}"
    against = "" if ratio is None else f"**{ratio:.1f}×**"
    return f"| {name} | {side} | {run.seconds:.2f} | {rows / run.seconds:,.0f} | {run.peak_mb:,.0f} MB | {told} | {against} |"


if __name__ == "__main__":
    main()
