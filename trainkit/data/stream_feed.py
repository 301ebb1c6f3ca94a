"""What feeds a streamed run: rows are read, encoded and dealt out as the steps ask for them, and nothing is kept."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from registry.batches import batched
from registry.datasets import DatasetEntry
from registry.encode import Encoder
from registry.errors import RowFault
from registry.examples import AnyExample, Example
from registry.fast_tokenizers import AUTO
from registry.manifest import Ledger
from registry.records import Record
from registry.remote import is_remote
from registry.render import Renderer, special_texts
from registry.sources import expand_sources
from registry.texts import TextRules, encode_texts, end_text_of, text_of
from registry.tokenizer import Tokenizer, open_tokenizer
from trainkit.config import RunConfig
from trainkit.data.account import Examples, Rejected, reason_of, warn_of_rows
from trainkit.data.blocks import is_packed
from trainkit.data.collate import Batch, RowLayout, collate_packed
from trainkit.data.feed import dealt_out
from trainkit.data.source import open_examples
from trainkit.data.stream_steps import StepPosition, StreamSteps, faulty_rows
from trainkit.data.streaming import RowStream, StreamRow
from trainkit.data.views import Joined, View
from trainkit.hub import model_folder
from trainkit.new_tokens import new_tokens
from trainkit.rules import encode_rules, render_rules
from trainkit.stages import STAGES

log = logging.getLogger("tunekit")

RECORDS = Record.__args__  # the kinds of records, for isinstance


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
    rank: int = 0
    world: int = 1

    num_examples = num_units = 0  # not known beforehand

    @property
    def steps_per_epoch(self) -> int:
        return self.total_steps

    def step(self, number: int) -> list[list[Any]]:
        """The micro-batches of this rank in step ``number`` (from 0): lists of examples, or of blocks of examples. Every rank
        reads the whole stream and takes its turn of the micro-batches, as with ``StepPlan``."""
        return self.steps.step(number)[self.rank :: self.world]

    def micro_in_step(self, number: int) -> int:
        """How many micro-batches each rank has in a step: an endless stream leaves none short."""
        return self.accumulation

    def epoch_after(self, steps: int) -> float:
        """The share of the run that ``steps`` steps are."""
        return steps / self.total_steps

    def examples_after(self, steps: int) -> int:
        """How many examples (blocks of a packed run) ``steps`` steps train."""
        return steps * self.batch_size * self.accumulation * self.world

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
    account: StreamAccount
    identity: str = ""
    layout: RowLayout | None = None  # of unpacked batches; None: an example a row

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
        return collate(examples, numbers, pad_id=self.pad_id, strict=self.config.strict, layout=self.layout)

    @property
    def pad_id(self) -> int:
        return self.tokenizer.pad_id or 0

    def digest(self) -> str:
        """A hash of what tells the rows of this run from others: their files, sizes and times."""
        return self.identity

    def eval_batches(self, size: int) -> dict[str, Iterator[Batch]]:
        """This rank's share of the held-out examples of each set in order, ``size`` at a time."""
        found = {}
        for name, view in self.examples.evals.items():
            shares = list(batched(range(len(view)), size))
            found[name] = dealt_out(shares, self.plan.rank, self.plan.world, partial(self._held_out, view))
        return found

    def _held_out(self, view: View, numbers: Sequence[int]) -> Batch:
        return self._collated([view[n] for n in numbers], numbers)

    def spare(self) -> Batch:
        """Nothing: every rank has as many micro-batches in every step of a stream."""
        raise AssertionError("a stream leaves no rank without a micro-batch")


def stream_data(config: RunConfig, entries: Mapping[str, DatasetEntry], *, rank: int = 0, world: int = 1) -> StreamData:
    """The stream of a run's rows, the steps that ``rank`` of ``world`` takes of it, and what is held out of it."""
    folder, data, loop = model_folder(config.model), config.data, config.loop
    examples = Examples(Joined([]))
    if data.eval_dataset:
        asked = replace(config, data=replace(data, dataset=None, val_size=0.0))
        examples, _ = open_examples(asked, entries, folder)
        examples.ledger = Ledger()
    template = data.template or ("empty" if config.stage == "pt" else None)
    tokenizer, renderer = open_tokenizer(
        folder, template, rules=render_rules(config), backend=AUTO, added=new_tokens(config.model)
    )
    stream = RowStream(
        tuple(entries[name] for name in data.dataset or ()), data.mix_strategy, data.interleave_probs,
        seed=loop.seed if loop.data_seed is None else loop.data_seed, buffer_size=data.buffer_size,
        shuffle=not loop.disable_shuffling, num_held_out=int(data.val_size), strict=config.strict,
    )  # fmt: skip
    encoding = _Encoding(config, tokenizer, Encoder(tokenizer, renderer, encode_rules(config)), examples)
    account = StreamAccount(examples, None if config.stage == "pt" else renderer)
    packed = is_packed(config)
    steps = StreamSteps(
        stream, encoding.encode, batch_size=loop.per_device_train_batch_size,
        accumulation=loop.gradient_accumulation_steps * world,
        block_len=data.cutoff_len if packed else 0, on_rows=account.read, on_fault=account.reject,
    )  # fmt: skip
    if data.val_size:
        held = stream.held_out()
        records = [row.record for row in held if row.record is not None]
        made = encoding.encode(records)
        account.read(len(held), records, [])  # what is cut of them, their view tells
        for row in faulty_rows(held, made):
            account.reject(row)
        examples.evals = {"": Held([e for e in made if not isinstance(e, RowFault)])}
    plan = StreamPlan(
        steps, loop.max_steps, loop.per_device_train_batch_size, loop.gradient_accumulation_steps, packed, rank, world
    )
    return StreamData(tokenizer, folder, examples, plan, config, account, _identity(stream.entries))


def _identity(entries: Sequence[DatasetEntry]) -> str:
    found = hashlib.sha256()
    for entry in entries:
        for file in expand_sources(entry.sources, warn=False):
            state = Path(file).stat() if not is_remote(file) else None
            found.update(repr((file, entry.layout, state and (state.st_size, state.st_mtime_ns))).encode())
    return found.hexdigest()[:16]


@dataclass
class _Encoding:
    """Records to examples for the steps of a stream."""

    config: RunConfig
    tokenizer: Tokenizer
    encoder: Encoder
    examples: Examples

    def encode(self, records: Sequence[Any]) -> list[Any]:
        """The example of each record, or its fault; for pt blocks of all their text."""
        return self._blocks(records) if self.config.stage == "pt" else list(self.encoder.chats(records))

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


@dataclass
class StreamAccount:
    """Where the rows of a stream's first epoch went; it goes on where a stopped run left it."""

    examples: Examples
    renderer: Renderer | None  # none: the rows' text is not spelled as turns
    _places: set[tuple[str, int]] = field(default_factory=set)

    def read(self, num_rows: int, records: Sequence[Any], made: Sequence[Any]) -> None:
        """Take note of ``num_rows`` more rows, the records among them, and the examples and faults made of these."""
        self.examples.ledger.rows_in += num_rows
        self.examples.ledger.rows_out += num_rows
        if self.renderer:
            self.examples.special_texts += sum(special_texts(record, self.renderer) for record in records)

        cut = [one.num_cut for one in made if isinstance(one, Example) and one.num_cut]
        sequences, tokens = self.examples.streamed_cut
        self.examples.streamed_cut = sequences + len(cut), tokens + sum(cut)

    def reject(self, row: StreamRow) -> None:
        """Take note of one of these rows that is not trained on."""
        fault = row.fault or RowFault("row", "it is no record")
        ledger = self.examples.ledger
        ledger.rows_out -= 1
        ledger.rejected[reason_of(fault)] += 1
        if (row.file, row.number) not in self._places:
            raw = asdict(row.raw) if isinstance(row.raw, RECORDS) else row.raw
            self.examples.rejected.append(Rejected(row.file, row.number, fault, raw))

    def state(self) -> dict[str, Any]:
        """The counts, for the checkpoint."""
        ledger = self.examples.ledger
        counts = {"rows_in": ledger.rows_in, "rows_out": ledger.rows_out, "special_texts": self.examples.special_texts}
        return {**counts, "cut": list(self.examples.streamed_cut), "rejected": dict(ledger.rejected)}

    def go_on(self, state: Mapping[str, Any], rejects: Path) -> None:
        """Go on from a ``state`` that was kept, and from the rejected rows that were written until then."""
        ledger = self.examples.ledger
        ledger.rows_in, ledger.rows_out = state["rows_in"], state["rows_out"]
        ledger.rejected = Counter(state["rejected"])
        self.examples.special_texts, self.examples.streamed_cut = state["special_texts"], tuple(state["cut"])
        lines = [orjson.loads(line) for line in rejects.read_bytes().splitlines()] if rejects.is_file() else []
        self.examples.rejected = [
            Rejected(line["file"], line["row"], RowFault(line["field"], line["reason"]), line["raw"]) for line in lines
        ]
        self._places = {(line["file"], line["row"]) for line in lines}

    def tell(self, config: RunConfig) -> None:
        """Say what became of the rows that were read."""
        ledger = self.examples.ledger
        log.info("%d rows of the first epoch read, %d rejected", ledger.rows_in, ledger.num_rejected)
        warn_of_rows(self.examples, config)
        ledger.check()
