"""Which examples of a packed run share a block."""

from __future__ import annotations

from registry.packing import knapsack_windows, pack_epoch
from trainkit.config import RunConfig
from trainkit.data.views import RowView, View


def is_packed(config: RunConfig) -> bool:
    """Whether whole examples share blocks; pt cuts its text into blocks of its own."""
    return config.stage == "sft" and bool(config.data.packing or config.data.neat_packing)


def fixed_blocks(config: RunConfig, view: View) -> list[list[int]] | None:
    """The blocks that all epochs share: LLaMA-Factory packs once, within its map batches (``strict``). None where every
    epoch is packed afresh."""
    if not (is_packed(config) and config.strict):
        return None
    assert isinstance(view, RowView)
    windows = view.order.windows
    assert windows is not None, "strict runs know their windows"
    return knapsack_windows(view.lengths, config.data.cutoff_len - 1, windows[view.kept])


def blocks_in_order(config: RunConfig, view: View) -> list[list[int]]:
    """The blocks of a packed run whose rows stay in their order, as they are written to files and shown."""
    blocks = fixed_blocks(config, view)
    return pack_epoch(view.lengths, config.data.cutoff_len) if blocks is None else blocks
