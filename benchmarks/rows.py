"""Rows to measure on: alpaca-like ones of varied text and nested chats, as Parquet and as JSON lines, always the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BATCH_ROWS = 20_000
HAN = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经"
MARKS = (". ", ", ", "? ", ": ", ".\n", "\n\n- ", "; ", ' "', '" ')


class Writer:
    """Text of invented words whose frequencies fall as in real text, with punctuation, numbers, code and Chinese."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        letters = "eeeeettttaaaooiinnsshhrrddlluucmfwygpbvkxqjz"
        self.words = ["".join(self.rng.choices(letters, k=self.rng.randint(1, 11))) for _ in range(20_000)]
        self.weights = [1 / (rank + 10) for rank in range(len(self.words))]
        self.pool: list[str] = []

    def text(self, words: int) -> str:
        """About so many words."""
        if len(self.pool) < words:  # drawn in bulk: one weighted draw a word would take minutes
            self.pool = self.rng.choices(self.words, self.weights, k=200_000)
        taken = self.pool[-words:]
        del self.pool[-words:]
        kind = self.rng.random()
        if kind < 0.06:
            return "".join(self.rng.choices(HAN, k=words * 2)) + "。"
        if kind < 0.10:
            return f"```python\ndef {taken[0]}({taken[-1]}):\n    return {words}\n```\n" + " ".join(taken)
        for at in range(7, len(taken), 9):
            taken[at] += self.rng.choice(MARKS)
        return " ".join(taken).capitalize() + "."


def alpaca(rows: int) -> Iterator[dict[str, Any]]:
    """Instruction, input (in 4 of 10 rows) and output: about 1 KB of JSON a row."""
    writer = Writer(5)
    for number in range(rows):
        rng = writer.rng
        asked, given, said = rng.randint(5, 30), rng.randint(8, 60), min(int(rng.lognormvariate(4.4, 0.7)) + 3, 900)
        yield {
            "id": number,
            "instruction": writer.text(asked),
            "input": writer.text(given) if rng.random() < 0.4 else "",
            "output": writer.text(said),
        }


def chats(rows: int) -> Iterator[dict[str, Any]]:
    """Conversations of two to ten turns."""
    writer = Writer(6)
    for number in range(rows):
        turns = [
            {"from": ("human", "gpt")[i % 2], "value": writer.text(writer.rng.randint(5, 20 + 60 * (i % 2)))}
            for i in range(2 * writer.rng.randint(1, 5))
        ]
        yield {"id": number, "conversations": turns}


KINDS: dict[str, Callable[[int], Iterator[dict[str, Any]]]] = {"alpaca": alpaca, "chats": chats}


def files_of(folder: Path, kind: str, rows: int) -> tuple[Path, Path]:
    """Where ``make`` puts them."""
    return folder / f"{kind}-{rows}.parquet", folder / f"{kind}-{rows}.jsonl"


def make(folder: Path, kind: str, rows: int) -> tuple[Path, Path]:
    """``KIND-ROWS.parquet`` and ``.jsonl`` in ``folder``; kept where they are there already."""
    import orjson
    import pyarrow as pa
    import pyarrow.parquet as pq

    parquet, lines = files_of(folder, kind, rows)
    if parquet.exists() and lines.exists():
        return parquet, lines
    folder.mkdir(parents=True, exist_ok=True)
    # Many rows are the first 200,000 over and over with other ids: a reader takes as long over them.
    distinct = [*KINDS[kind](min(rows, 200_000))]
    writer = None
    with lines.with_suffix(".part").open("wb") as out:
        for start in range(0, rows, BATCH_ROWS):
            numbers = range(start, min(start + BATCH_ROWS, rows))
            batch = [distinct[number % len(distinct)] | {"id": number} for number in numbers]
            out.write(b"".join(orjson.dumps(row) + b"\n" for row in batch))
            table = pa.Table.from_pylist(batch)
            writer = writer or pq.ParquetWriter(parquet, table.schema, compression="zstd")
            writer.write_table(table)
    if writer:
        writer.close()
    lines.with_suffix(".part").rename(lines)
    return parquet, lines
