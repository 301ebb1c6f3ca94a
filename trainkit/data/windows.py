"""LLaMA-Factory's map batches: the stretches of rows within which it packs, cuts blocks and pairs answers (``strict``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def map_windows(num_rows: int, batch_size: int, num_proc: int | None) -> np.ndarray[Any, Any]:
    """The number of the map batch of each of ``num_rows`` rows (int64, rising).

    ``datasets.Dataset.map(batched=True, num_proc=N)`` cuts the rows into N shards, the first ones a row longer where it
    does not come out even, and begins anew in each with batches of ``batch_size`` (datasets 5.2.0, arrow_dataset.py,
    ``shard(contiguous=True)``); None is one process.
    """
    import numpy as np

    shards = max(min(num_proc or 1, num_rows), 1)
    sizes = np.full(shards, num_rows // shards, np.int64)
    sizes[: num_rows % shards] += 1
    within = np.concatenate([np.arange(size) // batch_size for size in sizes]) if num_rows else np.zeros(0, np.int64)
    batches = -(-sizes // batch_size)
    return within + np.repeat(np.cumsum(batches) - batches, sizes)
