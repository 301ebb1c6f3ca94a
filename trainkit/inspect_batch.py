"""A bad step's batch, written out so that somebody can look at what was in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from registry.atomic import atomic_file
from registry.encode import IGNORE
from trainkit.data.collate import Batch

FOLDER = "skipped_batches"
MOST = 20  # files; a run that goes on skipping shows nothing new


def save_batch(
    folder: Path, step: int, batches: Sequence[Batch], decode: Callable[[Sequence[int]], str], *, rank: int = 0
) -> str:
    """Write ``skipped_batches/step-<N>.jsonl``: a line for each sequence, with its example's number, its text and the text
    that is trained. Returns where it lies, or would lie: a full disk is no reason to stop."""
    target = folder / FOLDER / (f"step-{step}.jsonl" if rank == 0 else f"step-{step}-process-{rank}.jsonl")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if len(list(target.parent.iterdir())) < MOST:
            with atomic_file(target) as handle:
                for line in lines_of(batches, decode):
                    handle.write(orjson.dumps(line) + b"\n")
    except OSError as error:
        return f"{target} (not written: {error.strerror})"
    return str(target)


def lines_of(batches: Sequence[Batch], decode: Callable[[Sequence[int]], str]) -> Iterator[dict[str, Any]]:
    """One object a row of the batch: ``examples`` (numbers in the data set), ``micro_batch``, ``text``, ``trained``."""
    for number, batch in enumerate(batches):
        for at, (ids, labels) in enumerate(zip(batch.input_ids.tolist(), batch.labels.tolist(), strict=True)):
            real = (
                ids
                if batch.attention_mask is None
                else [i for i, m in zip(ids, batch.attention_mask[at], strict=True) if m]
            )
            yield {
                "micro_batch": number,
                "row": at,
                "examples": list(batch.indices),
                "text": decode(real),
                "trained": decode([label for label in labels if label != IGNORE]),
            }
