"""The steps of a run, from its config and the lengths of its examples."""

from __future__ import annotations

from trainkit.config import RunConfig
from trainkit.data.account import Examples
from trainkit.data.blocks import fixed_blocks, is_packed
from trainkit.data.loader import StepPlan


def plan_steps(config: RunConfig, examples: Examples, *, rank: int = 0, world: int = 1) -> StepPlan:
    """The order of a run over its examples: plain, grouped by length, balanced, or packed."""
    loop, data = config.loop, config.data
    packed = is_packed(config)
    blocks = fixed_blocks(config, examples.train)
    fresh = packed and blocks is None
    batching = "plain" if packed else data.batching_strategy
    return StepPlan(
        num_examples=len(examples.train), batch_size=loop.per_device_train_batch_size,
        accumulation=loop.gradient_accumulation_steps, num_epochs=loop.num_train_epochs, max_steps=loop.max_steps,
        seed=loop.seed if loop.data_seed is None else loop.data_seed, shuffle=not loop.disable_shuffling, rank=rank,
        world=world, batching=batching, lengths=examples.train.lengths if fresh or batching != "plain" else (),
        block_len=data.cutoff_len if fresh else 0, blocks=blocks,
    )  # fmt: skip
