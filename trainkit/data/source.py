"""Dataset names to encoded examples: rows are read, made records, split and encoded, and every one is accounted for."""

from __future__ import annotations

import hashlib
import logging
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import orjson

from registry.atomic import atomic_file
from registry.batches import batched
from registry.datasets import DatasetEntry
from registry.encode import IGNORE, Encoder, EncodeRules, Example, PreferenceExample
from registry.errors import RowFault, UsageError
from registry.formats import READERS
from registry.manifest import Ledger
from registry.records import Record
from registry.render import Renderer, RenderRules
from registry.rows import BadRow, read_rows
from registry.texts import TextRules, encode_texts, end_text_of, text_of
from registry.tokenizer import Tokenizer, open_tokenizer
from trainkit.config import DataConfig

log = logging.getLogger("tunekit")
AnyExample = Example | PreferenceExample
T = TypeVar("T")

ENCODE_BATCH = 1000  # records handed to the tokenizer at once


@dataclass(frozen=True, slots=True)
class Located:
    """A record (None where the row is no record) and the row it came from."""

    record: Record | None
    file: str
    number: int
    raw: Any = None


@dataclass
class Examples:
    """The encoded data of a run. ``rejects`` holds a line for each row that is not trained on."""

    train: list[AnyExample] = field(default_factory=list)
    eval: list[AnyExample] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    dropped_tokens: int = 0

    def digest(self) -> str:
        """A hash of every id and label in order: two runs on equal digests see equal data."""
        found = hashlib.sha256()
        for side in sides_of([*self.train, *self.eval]):
            found.update(side.ids.tobytes())
            found.update(side.labels.tobytes())
        return found.hexdigest()[:16]

    def cut(self) -> tuple[int, int]:
        """How many sequences the length budget cut, and how many of their tokens it left out."""
        cuts = [side.num_cut for side in sides_of([*self.train, *self.eval]) if side.num_cut]
        return len(cuts), sum(cuts)

    def write_rejects(self, path: Path) -> None:
        """Write one JSON line for each rejected row, or remove a file of an earlier run."""
        if not self.rejects:
            path.unlink(missing_ok=True)
            return
        with atomic_file(path) as handle:
            for reject in self.rejects:
                handle.write(orjson.dumps(reject, default=str) + b"\n")


def sides_of(examples: Sequence[AnyExample]) -> Iterator[Example]:
    """Every sequence in order; a preference pair has two."""
    for example in examples:
        yield from (example,) if isinstance(example, Example) else (example.chosen, example.rejected)


def open_examples(
    stage: str, data: DataConfig, entries: Mapping[str, DatasetEntry], folder: str | Path, *, seed: int, strict: bool
) -> tuple[Examples, Tokenizer]:
    """The examples of a run by the tokenizer in ``folder``, and that tokenizer fitted to the run's template."""
    # pt spells no turns: a base model without a chat template is fine there
    template = data.template or ("empty" if stage == "pt" else None)
    tokenizer, renderer = open_tokenizer(
        folder, template, rules=RenderRules(default_system=data.default_system, strict=strict)
    )
    return load_examples(stage, data, entries, tokenizer, renderer, seed=seed, strict=strict), tokenizer


def load_examples(
    stage: str,
    data: DataConfig,
    entries: Mapping[str, DatasetEntry],
    tokenizer: Tokenizer,
    renderer: Renderer,
    *,
    seed: int,
    strict: bool,
) -> Examples:
    """Read and encode all datasets of a run.

    Raises ``UsageError`` where not one example is left, with the reasons counted.
    """
    found = Examples()
    for name in dict.fromkeys((*(data.dataset or ()), *(data.eval_dataset or ()))):
        for warning in entries[name].warnings:
            log.warning("dataset_info.json, %s: %s", name, warning)
    train = [r for name in data.dataset or () for r in _records(entries[name], data.max_samples, found, strict)]
    held_out = [r for name in data.eval_dataset or () for r in _records(entries[name], data.max_samples, found, strict)]
    if data.val_size:
        train, held_out = split_rows(train, data.val_size, seed)
    for rows, examples in ((train, found.train), (held_out, found.eval)):
        if stage == "pt":
            examples += _encode_text(rows, data, tokenizer, strict, found)
        else:
            rules = EncodeRules(data.cutoff_len, data.train_on_prompt, data.mask_history, strict)
            examples += _encode_turns(rows, Encoder(tokenizer, renderer, rules), found, pairs=stage == "dpo")
    _report(found, data)
    return found


def _records(entry: DatasetEntry, max_samples: int | None, found: Examples, strict: bool) -> Iterator[Located]:
    """The first ``max_samples`` rows of a dataset as records; a row that is none keeps its place, as None.

    Its place matters to the split: LLaMA-Factory counts such rows there, and drops them when it encodes.
    """
    read = READERS[entry.layout.formatting]
    for row in islice(read_rows(entry.sources, keep_blank_lines=strict), max_samples):
        found.ledger.read(row.file)
        if isinstance(row, BadRow):
            _reject(found, row.file, row.number, "row", row.reason, row.raw)
            yield Located(None, row.file, row.number)
            continue
        try:
            yield Located(read(row.data, entry.layout), row.file, row.number, row.data)
        except RowFault as fault:
            _reject(found, row.file, row.number, fault.field, fault.reason, row.data)
            yield Located(None, row.file, row.number)


def _reject(found: Examples, file: str, number: int, field_name: str, reason: str, raw: Any) -> None:
    found.ledger.rejected[f'field "{field_name}": {reason}' if field_name != "row" else reason] += 1
    found.rejects.append({"file": file, "row": number, "field": field_name, "reason": reason, "raw": raw})


def split_rows(rows: Sequence[T], val_size: float, seed: int) -> tuple[list[T], list[T]]:
    """Training rows and held-out rows; ``val_size`` is a share below 1, else a count.

    The same rows in the same order as ``datasets.Dataset.train_test_split(test_size, seed=seed)``, which
    LLaMA-Factory calls: a permutation by NumPy's default generator, held-out rows first.
    """
    import math

    import numpy as np

    num_held_out = math.ceil(val_size * len(rows)) if val_size < 1 else int(val_size)
    if not 0 < num_held_out < len(rows):
        raise UsageError(f"val_size {val_size:g} of {len(rows)} rows leaves nothing on one side")
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    return [rows[i] for i in order[num_held_out:]], [rows[i] for i in order[:num_held_out]]


def _encode_turns(rows: Sequence[Located], encoder: Encoder, found: Examples, *, pairs: bool) -> Iterator[AnyExample]:
    encode = encoder.preferences if pairs else encoder.chats
    for batch in batched((r for r in rows if r.record is not None), ENCODE_BATCH):
        for row, example in zip(batch, encode([r.record for r in batch]), strict=True):  # type: ignore[arg-type]
            if isinstance(example, RowFault):
                _reject(found, row.file, row.number, example.field, example.reason, row.raw)
            else:
                found.ledger.rows_out += 1
                yield example


def _encode_text(
    rows: Sequence[Located], data: DataConfig, tokenizer: Tokenizer, strict: bool, found: Examples
) -> Iterator[Example]:
    rules = TextRules(
        # With packing written out, theirs lowers the cutoff by one first, also where nothing needs it.
        cutoff_len=data.cutoff_len - 1 if strict and data.packing else data.cutoff_len,
        blocks=data.packing is not False,
        window=data.preprocessing_batch_size if strict else None,
        end_text=end_text_of(data.template),
        bos_id=tokenizer.bos_id if tokenizer.adds_bos else None,
        strict=strict,
    )
    texts = [text_of(r.record) for r in rows if r.record is not None]
    found.ledger.rows_out += len(texts)
    for example in encode_texts(batched(texts, ENCODE_BATCH), tokenizer, rules):
        if isinstance(example, int):
            found.dropped_tokens += example
        elif strict and tokenizer.pad_id == tokenizer.eos_id:
            # Their collator masks padding by its id, and with it every end of text that has the same id.
            labels = array("i", [IGNORE if i == tokenizer.pad_id else i for i in example.labels])
            yield Example(example.ids, labels, example.num_cut)
        else:
            yield example


def _report(found: Examples, data: DataConfig) -> None:
    ledger = found.ledger
    rest = (
        f", {found.dropped_tokens} tokens at the end of the text fill no block and are left out"
        if found.dropped_tokens
        else ""
    )
    log.info(
        "%d rows in, %d rejected, %d examples to train on%s%s",
        ledger.rows_in, ledger.num_rejected, len(found.train), f", {len(found.eval)} to evaluate on" if found.eval else "", rest,
    )  # fmt: skip
    num_cut, cut_tokens = found.cut()
    if num_cut:
        log.warning(
            "cutoff_len %d cuts %d sequences; %d of their tokens are left out", data.cutoff_len, num_cut, cut_tokens
        )
    for reason, count in ledger.rejected.most_common(5):
        log.warning("%d rejected: %s", count, reason)
    if not found.train and data.dataset:
        reasons = "; ".join(f"{count} × {reason}" for reason, count in ledger.rejected.most_common(3))
        raise UsageError(
            "no example to train on is left",
            where=", ".join(data.dataset),
            mend=f"Rejected: {reasons}."
            if reasons
            else f"The text fills no block of cutoff_len {data.cutoff_len}; lower it.",
        )
    ledger.check()
