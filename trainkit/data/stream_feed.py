"""What feeds a streamed run: rows are read, encoded and dealt out as the steps ask for them, and nothing is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from registry.batches import batched
from registry.datasets import DatasetEntry
from registry.encode import Encoder
from registry.errors import RowFault
from registry.examples import AnyExample, Example
from registry.fast_tokenizers import AUTO
from registry.manifest import Ledger
from registry.records import Record
from registry.remote import is_remote
from registry.sources import expand_sources
from registry.texts import TextRules, encode_texts, end_text_of, text_of
from registry.tokenizer import Tokenizer, open_tokenizer
from trainkit.config import RunConfig
from trainkit.data.blocks import is_packed
from trainkit.data.collate import Batch, collate_packed
from trainkit.data.source import Examples, Rejected, open_examples
from trainkit.data.stream_steps import StepPosition, StreamSteps
from trainkit.data.streaming import RowStream, StreamRow
from trainkit.data.views import Joined, View
from trainkit.hub import model_folder
from trainkit.rules import encode_rules, render_rules
from trainkit.stages import STAGES

RECORDS = Record.__args__  # type: ignore[attr-defined]  # the kinds of records, for isinstance


class Held(View):
    """Examples that are held in memory."""

    def __init__(self, examples: Sequence[AnyExample]) -> None:
        import numpy as np

        self._examples = list(examples)
        singles = [e for e in examples if isinstance(e, Example)]
        self.lengths = np.array([len(e.ids) for e in singles], np.int32)
        self.trained = np.array([e.num_trained for e in singles], np.int32)
        self.cut = np.array([e.num_cut for e in singles], np.int32)

    def __getitem__(self, number: int) -> AnyExample:
        return self._examples[number]

    def digest(self) -> str:
        """A hash of all ids and labels."""
        found = hashlib.sha256()
        for example in self._examples:
            assert isinstance(example, Example)
            found.update(example.ids.tobytes() + example.labels.tobytes())
        return found.hexdigest()[:16]


@dataclass
class StreamPlan:
    """The steps of a streamed run. As in ``transformers.Trainer``, one epoch is the whole of ``max_steps``."""

    steps: StreamSteps
    total_steps: int
    batch_size: int
    accumulation: int
    packed: bool

    num_examples = num_units = 0  # not known beforehand

    @property
    def steps_per_epoch(self) -> int:
        return self.total_steps

    def step(self, number: int) -> list[list[Any]]:
        """The micro-batches of step ``number`` (from 0): lists of examples, or of blocks of examples."""
        return self.steps.step(number)

    def epoch_after(self, steps: int) -> float:
        """The share of the run that ``steps`` steps are."""
        return steps / self.total_steps

    def examples_after(self, steps: int) -> int:
        """How many examples (blocks of a packed run) ``steps`` steps train."""
        return steps * self.batch_size * self.accumulation

    @property
    def position(self) -> dict[str, int]:
        """Where the next step begins, for the checkpoint."""
        return asdict(self.steps.position)

    def go_to(self, number: int, position: Mapping[str, int]) -> None:
        """Let step ``number`` come next, which begins at a ``position`` that was kept."""
        self.steps.go_to(number, StepPosition(**position))


@dataclass
class StreamData:
    """As ``trainkit.data.feed.Data``, of rows that come as they are asked for."""

    tokenizer: Tokenizer
    tokenizer_folder: Path
    examples: Examples
    plan: StreamPlan
    config: RunConfig
    identity: str = ""

    def batch_of(self, micro: Sequence[Any]) -> Batch:
        """One micro-batch of examples, or of blocks of examples."""
        if not self.plan.packed:
            return self._collated(micro, range(len(micro)))
        data = self.config.data
        numbers = [list(range(len(block))) for block in micro]
        return collate_packed(
            micro, numbers, self.pad_id, block_len=data.cutoff_len, strict=self.config.strict, neat=data.neat_packing
        )

    def _collated(self, examples: Sequence[Any], numbers: Sequence[int]) -> Batch:
        collate = STAGES[self.config.stage].collate
        return collate(examples, numbers, pad_id=self.pad_id, strict=self.config.strict)

    @property
    def pad_id(self) -> int:
        return self.tokenizer.pad_id or 0

    def digest(self) -> str:
        """A hash of what tells the rows of this run from others: their files, sizes and times."""
        return self.identity

    def eval_batches(self, size: int) -> dict[str, Iterator[Batch]]:
        """The held-out examples of each set in order, ``size`` at a time."""
        return {name: self._batches(view, size) for name, view in self.examples.evals.items()}

    def _batches(self, view: View, size: int) -> Iterator[Batch]:
        for numbers in batched(range(len(view)), size):
            yield self._collated([view[n] for n in numbers], numbers)


def stream_data(config: RunConfig, entries: Mapping[str, DatasetEntry]) -> StreamData:
    """The stream of a run's rows, its steps, and what is held out of it."""
    folder, data, loop = model_folder(config.model), config.data, config.loop
    examples = Examples(Joined([]))
    if data.eval_dataset:
        asked = replace(config, data=replace(data, dataset=None, val_size=0.0))
        examples, _ = open_examples(asked, entries, folder)
        examples.ledger = Ledger()
    template = data.template or ("empty" if config.stage == "pt" else None)
    tokenizer, renderer = open_tokenizer(folder, template, rules=render_rules(config), backend=AUTO)
    stream = RowStream(
        tuple(entries[name] for name in data.dataset or ()), data.mix_strategy, data.interleave_probs,
        seed=loop.seed if loop.data_seed is None else loop.data_seed, buffer_size=data.buffer_size,
        shuffle=not loop.disable_shuffling, num_held_out=int(data.val_size), strict=config.strict,
    )  # fmt: skip
    encoding = _Encoding(config, tokenizer, Encoder(tokenizer, renderer, encode_rules(config)), examples)
    packed = is_packed(config)
    steps = StreamSteps(
        stream, encoding.encode, batch_size=loop.per_device_train_batch_size, accumulation=loop.gradient_accumulation_steps,
        block_len=data.cutoff_len if packed else 0, on_fault=encoding.reject,
    )  # fmt: skip
    if data.val_size:
        held = [row.record for row in stream.held_out() if row.record is not None]
        examples.evals = {"": Held([e for e in encoding.encode(held) if not isinstance(e, RowFault)])}
    plan = StreamPlan(steps, loop.max_steps, loop.per_device_train_batch_size, loop.gradient_accumulation_steps, packed)
    return StreamData(tokenizer, folder, examples, plan, config, _identity(stream.entries))


def _identity(entries: Sequence[DatasetEntry]) -> str:
    found = hashlib.sha256()
    for entry in entries:
        for file in expand_sources(entry.sources, warn=False):
            state = Path(file).stat() if not is_remote(file) else None
            found.update(repr((file, entry.layout, state and (state.st_size, state.st_mtime_ns))).encode())
    return found.hexdigest()[:16]


@dataclass
class _Encoding:
    """Records to examples for the steps of a stream, with an account of what became of them."""

    config: RunConfig
    tokenizer: Tokenizer
    encoder: Encoder
    examples: Examples

    def encode(self, records: Sequence[Any]) -> list[Any]:
        """The example of each record, or its fault; for pt blocks of all their text."""
        ledger = self.examples.ledger
        ledger.rows_in += len(records)
        if self.config.stage == "pt":
            ledger.rows_out += len(records)
            return self._blocks(records)
        made = self.encoder.chats(records)
        faults = [one for one in made if isinstance(one, RowFault)]
        ledger.rows_out += len(made) - len(faults)
        for fault in faults:
            ledger.rejected[f'field "{fault.field}": {fault.reason}'] += 1
        return list(made)

    def _blocks(self, records: Sequence[Any]) -> list[Any]:
        data, tokenizer = self.config.data, self.tokenizer
        rules = TextRules(
            encode_rules(self.config).cutoff_len, blocks=data.packing is not False, end_text=end_text_of(data.template),
            bos_id=tokenizer.bos_id if tokenizer.adds_bos else None, strict=self.config.strict,
        )  # fmt: skip
        blocks: list[Any] = []
        for one in encode_texts([[text_of(record) for record in records]], tokenizer, rules):
            if isinstance(one, int):
                self.examples.dropped_tokens += one
            else:
                blocks.append(one)
        return blocks

    def reject(self, row: StreamRow) -> None:
        """Take note of a row that is not trained on."""
        fault = row.fault or RowFault("row", "it is no record")
        raw = row.raw
        if isinstance(raw, RECORDS):
            raw = asdict(raw)
        else:  # it never was a record, so the encoder did not count it
            self.examples.ledger.rows_in += 1
            self.examples.ledger.rejected[fault.reason] += 1
        self.examples.rejected.append(Rejected(row.file, row.number, fault, raw))
