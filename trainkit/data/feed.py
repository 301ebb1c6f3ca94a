"""What feeds a run: its examples, the order in which they are trained, and the batches that they become."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.batches import batched
from registry.datasets import DatasetEntry
from registry.tokenizer import Tokenizer
from trainkit.config import RunConfig
from trainkit.data.account import Examples
from trainkit.data.collate import Batch, RowLayout, collate_packed
from trainkit.data.loader import StepPlan
from trainkit.data.source import open_examples
from trainkit.data.steps import plan_steps
from trainkit.data.views import Joined
from trainkit.hub import model_folder
from trainkit.stages import STAGES


@dataclass(frozen=True)
class Data:
    """The examples of a run (held-out ones are numbered after the trained ones) and what made ids of them."""

    tokenizer: Tokenizer
    tokenizer_folder: Path
    examples: Examples
    plan: StepPlan
    config: RunConfig
    everything: Joined
    layout: RowLayout | None = None  # of unpacked batches; None: an example a row

    def batch_of(self, micro: Sequence[Any]) -> Batch:
        """One micro-batch of the plan: example numbers, or the blocks of a packed run."""
        if micro and not isinstance(micro[0], int):
            data = self.config.data
            blocks: Any = [[self.everything[n] for n in block] for block in micro]
            return collate_packed(
                blocks, micro, self.pad_id, block_len=data.cutoff_len, strict=self.config.strict, neat=data.neat_packing
            )
        return self.collated(micro)

    def collated(self, numbers: Sequence[int]) -> Batch:
        """The examples of these numbers, padded."""
        collate = STAGES[self.config.stage].collate
        examples = [self.everything[n] for n in numbers]
        return collate(examples, numbers, pad_id=self.pad_id, strict=self.config.strict, layout=self.layout)

    def spare(self) -> Batch:
        """Some batch, for a rank that has none in a step."""
        return self.collated([0])

    @property
    def pad_id(self) -> int:
        return self.tokenizer.pad_id or 0

    def digest(self) -> str:
        """A hash of what decides every example in order."""
        return self.examples.digest()

    def eval_batches(self, size: int) -> dict[str, Iterator[Batch]]:
        """This rank's share of the held-out examples of each set in order, ``size`` at a time; the only set is called "".
        Every rank has as many batches."""
        first = len(self.examples.train)
        found = {}
        for name, view in self.examples.evals.items():
            shares = list(batched(range(first, first + len(view)), size))
            found[name] = dealt_out(shares, self.plan.rank, self.plan.world, self.collated)
            first += len(view)
        return found


def dealt_out(shares: Sequence[Any], rank: int, world: int, collated: Callable[[Any], Batch]) -> Iterator[Batch]:
    """The batches of ``rank``, every ``world``-th; one that weighs nothing where the last round leaves it none."""
    for start in range(0, len(shares), world):
        mine = start + rank
        yield collated(shares[mine]) if mine < len(shares) else collated(shares[start]).as_idle()


def load_data(config: RunConfig, entries: Mapping[str, DatasetEntry], *, rank: int = 0, world: int = 1) -> Data:
    """Rows → encoded rows → views, and the order in which ``rank`` of ``world`` trains them."""
    folder = model_folder(config.model)
    examples, tokenizer = open_examples(config, entries, folder)
    plan = plan_steps(config, examples, rank=rank, world=world)
    return Data(tokenizer, folder, examples, plan, config, Joined([examples.train, *examples.evals.values()]))
