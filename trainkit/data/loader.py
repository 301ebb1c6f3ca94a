"""Which examples make up which step: a pure function of seed and step, so that a position is just a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from registry.packing import WINDOW, Numbers, as_list, count_epoch, pack_epoch
from trainkit.data.batching import balanced, length_grouped

BATCHINGS = ("plain", "length_grouped", "token_balanced")


class Plan(Protocol):
    """What the loop needs to know of the order of a run."""

    @property
    def total_steps(self) -> int: ...

    @property
    def steps_per_epoch(self) -> int: ...

    def step(self, number: int) -> list[list[Any]]:
        """The micro-batches of step ``number`` (from 0), for ``batch_of`` to make batches of."""
        ...

    def micro_in_step(self, number: int) -> int:
        """How many micro-batches the busiest rank has in step ``number``."""
        ...

    def epoch_after(self, steps: int) -> float: ...

    def examples_after(self, steps: int) -> int: ...


@dataclass(frozen=True, slots=True, eq=False)
class StepPlan:
    """The order of a whole run, as ``rank`` (of ``world``) sees it.

    A step is a window of ``accumulation`` micro-batches of ``batch_size`` examples for each rank; the ranks take its
    micro-batches in turn, as accelerate deals them out. Together they train every example exactly once an epoch: none
    is repeated to fill a window and none is left out. So the last micro-batch of an epoch, and its last window, may be
    short, and there a rank may even get no micro-batch (it still takes part in the step, with a gradient of 0).

    Epochs are shuffled as ``transformers.Trainer`` does (accelerate's seedable sampler: ``torch.randperm`` under
    ``seed + epoch``), so the same seed gives the same order there and here.

    ``batching``: ``length_grouped`` puts examples of like length into one step, in the order of transformers'
    ``LengthGroupedSampler``; ``token_balanced`` keeps the plain examples of each step, and so its gradient, but cuts
    the step into micro-batches anew, so that little is padding and no rank waits. Both need ``lengths`` (tokens of
    each example). Without ``shuffle``, ``length_grouped`` keeps the order of the file.

    Packed runs: with ``block_len`` the examples are packed afresh each epoch (``registry.packing.pack_epoch``, needs
    ``lengths``); ``blocks`` are blocks made once (``compat: strict``). ``batch_size`` then counts blocks, a
    micro-batch is a list of blocks, and a block a list of example numbers. Every epoch has as many blocks.
    """

    num_examples: int
    batch_size: int
    accumulation: int
    num_epochs: float
    max_steps: int
    seed: int
    shuffle: bool
    rank: int = 0
    world: int = 1
    batching: str = "plain"
    lengths: Numbers = ()
    block_len: int = 0
    window: int = WINDOW
    blocks: Sequence[Sequence[int]] | None = None

    def __post_init__(self) -> None:
        if self.batching not in BATCHINGS:
            raise ValueError(f"{self.batching!r} is no batching; there are {', '.join(BATCHINGS)}")
        if self.packed and self.batching != "plain":
            raise ValueError(f"blocks are of one length: {self.batching} has nothing to do in a packed run")
        needs_lengths = self.block_len or self.batching != "plain"
        if (needs_lengths or len(self.lengths)) and len(self.lengths) != self.num_examples:
            raise ValueError(f"{len(self.lengths)} lengths for {self.num_examples} examples")
        if not 0 <= self.rank < self.world:
            raise ValueError(f"there is no rank {self.rank} in a world of {self.world}")

    @property
    def packed(self) -> bool:
        return self.block_len > 0 or self.blocks is not None

    @property
    def num_units(self) -> int:
        """Examples, or blocks of a packed run, in an epoch."""
        return _num_blocks(self) if self.packed else self.num_examples

    @property
    def micro_per_epoch(self) -> int:
        """Micro-batches that the busiest rank takes in an epoch (as plain batching counts them)."""
        return math.ceil(math.ceil(self.num_units / self.batch_size) / self.world)

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.micro_per_epoch / self.accumulation)

    @property
    def total_steps(self) -> int:
        return self.max_steps if self.max_steps > 0 else math.ceil(self.num_epochs * self.steps_per_epoch)

    @property
    def step_size(self) -> int:
        """Examples or blocks of a full step, over all ranks."""
        return self.batch_size * self.accumulation * self.world

    def step(self, number: int) -> list[list[Any]]:
        """The micro-batches of this rank in step ``number`` (from 0): lists of example numbers, or of blocks."""
        return self._shares(number)[self.rank]

    def micro_in_step(self, number: int) -> int:
        """How many micro-batches the busiest rank has in step ``number``: as often must every rank compute."""
        return max(map(len, self._shares(number)))

    def _shares(self, number: int) -> list[list[list[Any]]]:
        """The micro-batches of every rank in a step."""
        epoch, within = divmod(number, self.steps_per_epoch)
        units = _units(self, epoch)[within * self.step_size : (within + 1) * self.step_size]
        if self.batching == "token_balanced":
            shares = balanced([int(self.lengths[n]) for n in units], self.batch_size, self.accumulation, self.world)
            return [[[units[place] for place in micro] for micro in share] for share in shares]
        micro = [list(units[i : i + self.batch_size]) for i in range(0, len(units), self.batch_size)]
        return [micro[rank :: self.world] for rank in range(self.world)]

    def epoch_after(self, steps: int) -> float:
        """How many epochs ``steps`` steps are, counted in micro-batches as the Trainer counts them."""
        epochs, rest = divmod(steps, self.steps_per_epoch)
        return epochs + rest * self.accumulation / self.micro_per_epoch

    def examples_after(self, steps: int) -> int:
        """How many examples all ranks have trained after ``steps`` steps."""
        epochs, rest = divmod(steps, self.steps_per_epoch)
        begun = rest * self.step_size
        if rest and self.packed:
            begun = sum(map(len, _units(self, epochs)[:begun]))
        return epochs * self.num_examples + min(begun, self.num_examples)


@lru_cache(maxsize=4)
def _num_blocks(plan: StepPlan) -> int:
    if plan.blocks is not None:
        return len(plan.blocks)
    return count_epoch(plan.lengths, plan.block_len, shuffled=plan.shuffle, window=plan.window)


@lru_cache(maxsize=2)
def _units(plan: StepPlan, epoch: int) -> Sequence[Any]:
    """The examples or blocks of an epoch, in order."""
    seed = plan.seed + epoch
    order = _order(plan.num_examples, seed) if plan.shuffle else None
    if not plan.packed:
        if order is not None and plan.batching == "length_grouped":
            return length_grouped(as_list(plan.lengths), order, plan.step_size)
        return range(plan.num_examples) if order is None else order
    blocks = plan.blocks
    if blocks is None:
        blocks = pack_epoch(plan.lengths, plan.block_len, order, window=plan.window)
    return [list(blocks[i]) for i in _order(len(blocks), seed)] if plan.shuffle else [list(block) for block in blocks]


@lru_cache(maxsize=2)
def _order(num_examples: int, seed: int) -> list[int]:
    import torch

    return torch.randperm(num_examples, generator=torch.Generator().manual_seed(seed)).tolist()
