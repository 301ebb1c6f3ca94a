"""One pass over the rows: the token lengths of each, counted by the encoder that training uses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby, tee
from pathlib import Path

from datakit.stats.cutoff import Steps
from datakit.stats.lengths import Lengths
from datakit.stats.read import Account, Batch, draw_batches, read_batches, sources_of
from datakit.stats.roles import Roles
from registry.encode import HALF, Encoder, EncodeRules, TurnLengths, count_texts
from registry.errors import DataError, RowFault, UsageError
from registry.fast_tokenizers import AUTO
from registry.records import PreferenceRecord
from registry.render import Renderer, Turn
from registry.stages import KINDS, check_stage
from registry.texts import end_text_of, text_of
from registry.tokenizer import TextEncoder, model_limit, open_tokenizer

UNTRAINED = RowFault("answer", "no token of it is there to train")


@dataclass(frozen=True)
class Measured:
    """Everything that the report is made from. ``model_limit`` is in tokens, None where the model names none.

    ``roles`` maps a role to its tokens and trained tokens; ``judged`` counts kto's answers by how they were judged;
    ``doubtful`` counts texts that a tokenizer counted before it was found to differ.
    """

    lengths: Lengths
    account: Account
    stage: str
    target: float
    template: str | None
    tokenizer: str
    backend: str = "tokenizers"
    model_limit: int | None = None
    opens_with_bos: bool = False
    steps: Steps = field(default_factory=Steps)
    roles: dict[str, dict[str, int]] = field(default_factory=dict)
    judged: dict[str, int] = field(default_factory=dict)
    doubtful: int = 0
    files: tuple[str, ...] = ()


def measure_rows(
    src: Sequence[str],
    *,
    model: Path,
    dataset: str | None = None,
    dataset_dir: Path = Path("data"),
    template: str | None = None,
    stage: str = "sft",
    target: float = 0.99,
    backend: str = AUTO,
    sample: int | None = None,
    seed: int = 0,
    steps: Steps = Steps(),
) -> Measured:
    """Measure files (``src``) or registered datasets (``dataset``, names with commas) for one stage.

    With ``sample`` only so many rows are drawn and measured. Raises ``UsageError`` for a wrong stage, template,
    backend, folder or source, ``DataError`` where no row could be measured.
    """
    check_stage(stage)
    if steps.packing and stage in ("rm", "dpo", "kto"):
        raise UsageError(f"packing is for pt and sft, not for {stage}", where="--packing")
    # pt writes no turns, so a base model without a chat template will do; "empty" changes nothing about its tokens.
    named = template or ("empty" if stage == "pt" else None)
    tokenizer, renderer = open_tokenizer(model, named, backend=backend)
    sources = sources_of(src, dataset, dataset_dir)
    account = Account()
    batches = (
        read_batches(sources, stage, renderer, account)
        if sample is None
        else draw_batches(sources, stage, account, sample, seed)
    )
    opens_with_bos = stage == "pt" and tokenizer.adds_bos
    roles: dict[str, dict[str, int]] = {}
    judged: dict[str, int] = {}
    if stage == "pt":
        # As training does: its Llama 3 texts end with the base model's end of text.
        end = end_text_of(template) or tokenizer.eos_token
        own = int(opens_with_bos) if steps.packing is False else None
        lengths = measure_texts(batches, tokenizer, end, account, bos_of_each=own)
    else:
        lengths, roles, judged = measure_turns(batches, tokenizer, renderer, stage, account)
    account.ledger.check()
    files = tuple(file for source in sources for file in source.files)
    if not len(lengths):
        reasons = "; ".join(f"{count} × {reason}" for reason, count in account.ledger.rejected.most_common(3))
        what = f"none of the {account.ledger.rows_in:,} rows can be trained on"
        raise DataError(what, where=", ".join(files[:5]), mend=f"Rejected: {reasons}.")
    return Measured(
        lengths, account, stage, target, template, str(model), tokenizer.coder.name, model_limit(model), opens_with_bos,
        steps, roles, judged, getattr(tokenizer.coder, "doubtful", 0), files,
    )  # fmt: skip


def measure_turns(
    batches: Iterable[Batch], tokenizer: TextEncoder, renderer: Renderer, stage: str, account: Account
) -> tuple[Lengths, dict[str, dict[str, int]], dict[str, int]]:
    """Lengths, tokens by role, and (kto) judgements of conversations; what no cutoff could train is rejected."""
    encoder = Encoder(tokenizer, renderer, EncodeRules())
    num_end = int(renderer.efficient_eos and tokenizer.eos_id is not None)
    lengths = Lengths(KINDS[stage][0], num_end)
    roles = Roles(tokenizer, renderer, num_end)
    judged = {"desirable": 0, "undesirable": 0} if stage == "kto" else {}
    ahead, behind = tee(batch for batch in batches if batch.rows)
    for batch, found in zip(ahead, encoder.lengths(_spelled(batch, encoder) for batch in behind), strict=True):
        if found.faults or not (num_end or min(found.targets) > 0):
            batch, found = _trainable(batch, found, num_end, account)
        _keep(batch, found, lengths, account)
        roles.add(batch.rows, found)
        for record in batch.rows if judged else ():
            judged["desirable" if record.desirable else "undesirable"] += 1  # type: ignore[union-attr]
    return lengths, roles.as_dict(), judged


def _spelled(batch: Batch, encoder: Encoder) -> list[Sequence[Turn] | RowFault]:
    """The turns of each row."""
    others = iter(encoder.walked([row for row in batch.rows if not isinstance(row, tuple)]))
    return [row[0] if isinstance(row, tuple) else next(others) for row in batch.rows]


def _trainable(batch: Batch, found: TurnLengths, num_end: int, account: Account) -> tuple[Batch, TurnLengths]:
    """The records of a batch that training could learn from, and their lengths; the others are rejected.

    Of a preference every answer must be there to train, of a conversation one.
    """
    kept, lengths = Batch([], [], batch.name), TurnLengths()
    first = 0
    for number, (place, record) in enumerate(zip(batch.places, batch.rows, strict=True)):
        count = found.num_turns[number]
        sources, targets = found.sources[first : first + count], found.targets[first : first + count]
        first += count
        enough = all if isinstance(record, PreferenceRecord) else any
        fault = found.faults.get(number) or (None if num_end or enough(targets) else UNTRAINED)
        if fault:
            account.reject(place, fault, batch.name)
            continue
        kept.places.append(place)
        kept.rows.append(record)
        lengths.num_turns.append(count)
        lengths.sources += sources
        lengths.targets += targets
    return kept, lengths


def _keep(batch: Batch, found: TurnLengths, lengths: Lengths, account: Account) -> None:
    """Take over the lengths of a batch, by file or dataset."""
    account.ledger.rows_out += len(batch.places)
    row = turn = 0
    for name, group in groupby([batch.name or file for file, _ in batch.places]):
        counts = found.num_turns[row : row + len(list(group))]
        end = turn + sum(counts)
        lengths.begin(name)
        lengths.extend(counts, found.sources[turn:end], found.targets[turn:end])
        row, turn = row + len(counts), end


def measure_texts(
    batches: Iterable[Batch], tokenizer: TextEncoder, end_text: str, account: Account, *, bos_of_each: int | None = None
) -> Lengths:
    """Lengths of texts for pt, each with the ``end_text`` that training writes after it.

    With ``bos_of_each`` (0 or 1 tokens) the texts are not cut into blocks, but trained one by one.
    """
    lengths = Lengths("text" if bos_of_each is None else "chat")
    for batch in batches:
        texts = [text_of(row) + end_text for row in batch.rows if not isinstance(row, tuple)]
        counts = count_texts(texts, tokenizer)
        kept, found = Batch([], [], batch.name), TurnLengths()
        for place, text in zip(batch.places, texts, strict=True):
            if text and text not in counts:
                account.reject(place, HALF, batch.name)
                continue
            kept.places.append(place)
            found.targets.append(counts.get(text, 0) + (bos_of_each or 0))
        found.num_turns, found.sources = [1] * len(kept.places), [0] * len(kept.places)
        _keep(kept, found, lengths, account)
    return lengths
