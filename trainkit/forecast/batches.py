"""The micro-batch of a run that takes the most memory, and what smaller ones of the same examples would be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from registry.encode import Example, FeedbackExample
from registry.packing import as_list
from registry.tokenizer import Tokenizer
from trainkit.config import RunConfig
from trainkit.data.account import Examples
from trainkit.data.collate import Batch, RowLayout, collate_packed
from trainkit.data.feed import Data
from trainkit.data.steps import plan_steps
from trainkit.data.views import Joined
from trainkit.stages import STAGES

# (how many examples, or blocks of a packed run; how many tokens each at most) -> the batch
MakeBatch = Callable[[int, int], Batch]


def largest_batch(config: RunConfig, examples: Examples, tokenizer: Tokenizer, *, device: str) -> MakeBatch | None:
    """Makes the micro-batch that a run rehearses, as it will lie in rows on this kind of ``device``, or its longest
    examples; None where there is none."""
    plan = plan_steps(config, examples)
    data = Data(tokenizer, Path(), examples, plan, config, Joined([examples.train]), layout_on(config, device))
    return largest_of(data)


def largest_of(data: Data) -> MakeBatch | None:
    """The same for the ``data`` of a run."""
    from trainkit.longest import longest_micro

    micro = longest_micro(data.plan, as_list(data.examples.train.lengths))
    if not micro:
        return None
    config = data.config

    def packed(size: int, most: int) -> Batch:
        blocks: Any = [_fitting([data.everything[n] for n in block], most) for block in micro[:size]]
        return collate_packed(
            blocks, micro[:size], data.pad_id, block_len=most, strict=config.strict, neat=config.data.neat_packing
        )

    def plain(size: int, most: int) -> Batch:
        numbers = sorted(micro, key=lambda n: -int(data.examples.train.lengths[n]))[:size]
        cut = [_shortened(data.everything[n], most) for n in numbers]
        collate = STAGES[config.stage].collate
        return collate(cut, numbers, pad_id=data.pad_id, strict=config.strict, layout=data.layout)

    return plain if isinstance(micro[0], int) else packed


def layout_on(config: RunConfig, device: str) -> RowLayout | None:
    """``trainkit.engine.choose_rows`` for a model that keeps packed examples apart, as nearly all do."""
    from trainkit.engine import CPU_ROW, GPU_ROW

    row, multiple = (GPU_ROW, 64) if device == "cuda" else (CPU_ROW, 8)
    if config.data.packing and config.stage in ("rm", "dpo", "kto"):
        return RowLayout(config.data.cutoff_len, multiple, constant=True)
    return None if config.strict else RowLayout(row, multiple)


def _shortened(example: Any, most: int) -> Any:
    """An example of no more than ``most`` tokens a sequence; at its end, where answers are, as much as can be."""
    if isinstance(example, Example):
        weights = None if example.weights is None else example.weights[-most:]
        return replace(example, ids=example.ids[-most:], labels=example.labels[-most:], weights=weights)
    if isinstance(example, FeedbackExample):
        return replace(example, own=_shortened(example.own, most), kl=_shortened(example.kl, most))
    return replace(example, chosen=_shortened(example.chosen, most), rejected=_shortened(example.rejected, most))


def _fitting(examples: Sequence[Any], most: int) -> list[Any]:
    """As many of ``examples`` as a block of ``most`` tokens has room for, the last one cut."""
    found: list[Any] = []
    left = most
    for example in examples:
        if left <= 0:
            break
        found.append(_shortened(example, left))
        left -= len(example.ids)
    return found
