"""One pass over the rows: the token lengths of each, counted by the encoder that training uses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datakit.stats.lengths import Lengths
from datakit.stats.read import Account, read_records, sources_of
from registry.batches import batched
from registry.encode import Encoder, EncodeRules
from registry.errors import DataError, RowFault
from registry.records import Record
from registry.render import Renderer
from registry.stages import KINDS, check_stage
from registry.texts import end_text_of, text_of
from registry.tokenizer import TextEncoder, model_limit, open_tokenizer

BATCH_ROWS = 512  # rows handed to the tokenizer at once


@dataclass(frozen=True)
class Measured:
    """Everything that the report is made from. ``model_limit`` is in tokens, None where the model names none."""

    lengths: Lengths
    account: Account
    stage: str
    target: float
    template: str | None
    tokenizer: str
    backend: str = "tokenizers"
    model_limit: int | None = None
    opens_with_bos: bool = False


def measure_rows(
    src: Sequence[str],
    *,
    model: Path,
    dataset: str | None,
    dataset_dir: Path,
    template: str | None,
    stage: str,
    target: float,
) -> Measured:
    """Measure files (``src``) or registered datasets (``dataset``, names with commas) for one stage.

    Raises ``UsageError`` for a wrong stage, template, folder or source, ``DataError`` where no row could be measured.
    """
    check_stage(stage)
    # pt writes no turns, so a base model without a chat template will do; "empty" changes nothing about its tokens.
    tokenizer, renderer = open_tokenizer(model, template or ("empty" if stage == "pt" else None))
    sources = sources_of(src, dataset, dataset_dir)
    account = Account()
    records = read_records(sources, stage, account)
    if stage == "pt":
        # As training does: its Llama 3 texts end with the base model's end of text.
        end = end_text_of(template) or tokenizer.eos_token
        lengths = measure_texts((record for _, record in records), tokenizer, end, account)
    else:
        lengths = measure_turns(records, tokenizer, renderer, stage, account)
    account.ledger.check()
    if not len(lengths):
        reasons = "; ".join(f"{count} × {reason}" for reason, count in account.ledger.rejected.most_common(3))
        names = ", ".join(file for source in sources for file in source.files)
        raise DataError(
            f"none of the {account.ledger.rows_in:,} rows can be trained on", where=names, mend=f"Rejected: {reasons}."
        )
    return Measured(
        lengths, account, stage, target, template, str(model),
        model_limit=model_limit(model), opens_with_bos=stage == "pt" and tokenizer.adds_bos,
    )  # fmt: skip


def measure_turns(
    records: Iterable[tuple[str, Any]], tokenizer: TextEncoder, renderer: Renderer, stage: str, account: Account
) -> Lengths:
    """Lengths of chats or preferences, each given with where it stands; what no cutoff could train is rejected."""
    encoder = Encoder(tokenizer, renderer, EncodeRules())
    ends_once = renderer.efficient_eos and tokenizer.eos_id is not None
    lengths = Lengths(KINDS[stage][0], num_end=int(ends_once))
    for batch in batched(records, BATCH_ROWS):
        for (where, _), turns in zip(batch, encoder.lengths([record for _, record in batch]), strict=True):
            if isinstance(turns, RowFault):
                account.reject(where, turns)
            elif not lengths.sequences(turns, None):
                account.reject(where, RowFault("answer", "no token of it is there to train"))
            else:
                account.ledger.rows_out += 1
                lengths.add(turns)
    return lengths


def measure_texts(records: Iterable[Record], tokenizer: TextEncoder, end_text: str, account: Account) -> Lengths:
    """Lengths of texts for pt, each with the ``end_text`` that training writes after it."""
    lengths = Lengths("text")
    for batch in batched(records, BATCH_ROWS):
        for ids in tokenizer.encode_batch([text_of(record) + end_text for record in batch]):
            account.ledger.rows_out += 1
            lengths.add([(0, len(ids))])
    return lengths
