"""What a run's lengths come to: percentiles, how full its blocks are or how much of its batches is padding, and its steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from registry.packing import as_list
from trainkit.config import RunConfig
from trainkit.data.account import Examples
from trainkit.data.batching import PAD_MULTIPLE, balanced, length_grouped
from trainkit.data.blocks import is_packed
from trainkit.data.loader import BATCHINGS
from trainkit.data.makes import Pairs, parts_by_row
from trainkit.data.steps import plan_steps
from trainkit.data.text_view import TextView
from trainkit.data.views import RowView, View

if TYPE_CHECKING:
    import numpy as np

    Ints = np.ndarray[Any, Any]

PERCENTILES = (50, 90, 99, 100)
MOST_STEPS = 400  # steps that are cut anew to learn how much padding token_balanced leaves


def length_facts(view: View) -> dict[str, Any]:
    """Percentiles of the lengths (tokens) as they are and after cutting, and what was cut."""
    return {
        "uncut": _percentiles(uncut_lengths(view)),
        "kept": _percentiles(view.lengths),
        "examples_cut": int((view.cut > 0).sum()),
        "tokens_cut": int(view.cut.sum(dtype="int64")),
    }


def uncut_lengths(view: View) -> Ints:
    """The length of every row that has ids, of pairs and feedback with the longer answer; of pt that of every text."""
    import numpy as np

    if isinstance(view, TextView):
        lengths, starts, _ = parts_by_row(view.sets, view.order)
        return lengths[starts]
    if not isinstance(view, RowView) or not len(view.order):
        return np.zeros(0, np.int32)
    lengths, starts, counts = parts_by_row(view.sets, view.order)
    num_end = int(getattr(view.make, "eos", None) is not None)
    if isinstance(view.make, Pairs):
        return lengths[starts] + np.maximum(lengths[starts + 1], lengths[starts + 2]) + num_end
    sums = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return sums[starts + counts] - sums[starts] + num_end


def _percentiles(lengths: Ints) -> dict[str, int]:
    """The least length that so many of a hundred do not exceed."""
    import numpy as np

    if not len(lengths):
        return {}
    found = np.percentile(lengths, PERCENTILES, method="inverted_cdf")
    return {str(name): int(value) for name, value in zip(PERCENTILES, found, strict=True)}


def step_facts(config: RunConfig, examples: Examples, num_tokens: int) -> dict[str, Any]:
    """Steps and what is in them; ``num_tokens`` are the tokens of an epoch. Of shuffled runs the padding is that of one
    random order, which differs little from another."""
    plan = plan_steps(config, examples)
    per_epoch, total = plan.steps_per_epoch, plan.total_steps
    facts: dict[str, Any] = {
        "batch_size": plan.batch_size,
        "accumulation": plan.accumulation,
        "per_epoch": per_epoch,
        "total": total,
        "epochs": round(plan.epoch_after(total), 4),
        "tokens_per_step": round(num_tokens / per_epoch),
    }
    view = examples.train
    if is_packed(config):
        room = plan.num_units * config.data.cutoff_len
        return facts | {"blocks": plan.num_units, "block_len": config.data.cutoff_len, "fill": num_tokens / room}
    if isinstance(view, TextView) and view.rules.blocks:
        return facts | {"blocks": len(view), "block_len": int(view.lengths[0]), "fill": 1.0}
    sides = 2 if config.stage in ("rm", "dpo", "kto") else 1
    sizes = padded_sizes(view.lengths, plan.batch_size, plan.accumulation, plan.seed, shuffle=plan.shuffle)
    facts["batching"] = plan.batching
    return facts | {"padding": {name: 1 - num_tokens / (sides * size) for name, size in sizes.items()}}


def padded_sizes(
    lengths: Ints, batch_size: int, accumulation: int, seed: int, *, shuffle: bool = True
) -> dict[str, float]:
    """The tokens of an epoch with its padding, for each way to make batches (those that need shuffling only with it)."""
    import numpy as np

    order = np.random.RandomState(seed % 2**32).permutation(len(lengths)) if shuffle else np.arange(len(lengths))
    found: dict[str, float] = {"plain": _padded(lengths[order], batch_size)}
    if not shuffle:
        return found
    sizes, numbers, step_size = as_list(lengths), order.tolist(), batch_size * accumulation
    grouped = np.array(length_grouped(sizes, numbers, step_size), np.int64)
    found["length_grouped"] = _padded(lengths[grouped], batch_size)
    firsts = range(0, len(numbers), step_size)
    firsts = firsts[:: -(-len(firsts) // MOST_STEPS)]
    some = before = 0.0
    for first in firsts:
        step = [sizes[n] for n in numbers[first : first + step_size]]
        some += sum(_micro_size([step[at] for at in micro]) for micro in balanced(step, batch_size, accumulation, 1)[0])
        before += sum(_micro_size(step[at : at + batch_size]) for at in range(0, len(step), batch_size))
    found["token_balanced"] = found["plain"] * some / before
    return {name: found[name] for name in BATCHINGS}


def _micro_size(lengths: Sequence[int]) -> int:
    return len(lengths) * (-(-max(lengths) // PAD_MULTIPLE) * PAD_MULTIPLE)


def _padded(lengths: Ints, batch_size: int) -> float:
    """The tokens of batches taken in order, each padded to its longest."""
    import numpy as np

    firsts = np.arange(0, len(lengths), batch_size)
    longest = np.maximum.reduceat(lengths.astype(np.int64), firsts)
    counts = np.diff(np.append(firsts, len(lengths)))
    return float((counts * (-(-longest // PAD_MULTIPLE) * PAD_MULTIPLE)).sum())
