"""Parquet → JSONL: `datakit convert` (manifest, hashes and fsync included) against a bare pyarrow + orjson loop.

    python benchmarks/convert.py [--rows 200000]

Prints rows a second and peak memory of each side, medians of three runs in turn, and the ratio.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def make(path: Path, rows: int) -> None:
    """Alpaca-like rows of 100 to 1,500 characters."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = random.Random(5)
    words = [
        "router",
        "invoice",
        "window",
        "parcel",
        "signal",
        "升级",
        "退货",
        "password",
        "evening",
        "café",
        "cable",
        "light",
    ]
    text = lambda: " ".join(rng.choices(words, k=rng.randrange(8, 110)))  # noqa: E731
    schema = pa.schema([("instruction", pa.string()), ("input", pa.string()), ("output", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, rows, 20_000):
            count = min(20_000, rows - start)
            columns = [[text() for _ in range(count)], [""] * count, [text() for _ in range(count)]]
            writer.write_table(pa.table(columns, schema=schema))


def theirs(source: Path, target: Path) -> None:
    """The loop that people write by hand."""
    import orjson
    import pyarrow.parquet as pq

    with target.open("wb") as out:
        for batch in pq.ParquetFile(source, pre_buffer=False).iter_batches():
            for row in batch.to_pylist():
                out.write(orjson.dumps(row) + b"\n")


def ours(source: Path, target: Path) -> None:
    """The command's own function."""
    from datakit.convert import convert_rows

    outcome = convert_rows([str(source)], str(target))
    if outcome.rows_out == 0 or outcome.num_rejected:
        raise SystemExit(f"{outcome.rows_out} rows out, {outcome.num_rejected} rejected: nothing to compare")


def main() -> None:
    """Make the rows, run both sides in turn, print JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--side", choices=["ours", "theirs"])
    parser.add_argument("--source", type=Path)
    options = parser.parse_args()
    if options.side:
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            {"ours": ours, "theirs": theirs}[options.side](options.source, Path(folder) / "out.jsonl")
            seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
        return
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "rows.parquet"
        make(source, options.rows)
        runs: dict[str, list[dict]] = {"ours": [], "theirs": []}
        for _ in range(3):
            for side, found in runs.items():
                command = [sys.executable, __file__, "--side", side, "--source", str(source)]
                out = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
                found.append(json.loads(out.stdout.strip().splitlines()[-1]))
    medians = {side: statistics.median(run["seconds"] for run in found) for side, found in runs.items()}
    report = {
        "rows": options.rows,
        "rows_a_second": {side: round(options.rows / s) for side, s in medians.items()},
        "peak_mb": {side: round(max(run["peak_mb"] for run in found)) for side, found in runs.items()},
        "ratio": medians["theirs"] / medians["ours"],
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
