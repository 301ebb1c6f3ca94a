"""A small model from scratch: random weights and a byte-level BPE tokenizer, as an ordinary Hugging Face folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from registry.atomic import atomic_folder
from registry.errors import RowFault, UsageError
from registry.formats import READERS, detect
from registry.manifest import Ledger, build_manifest, manifest_path, write_manifest
from registry.records import PreferenceRecord, TextRecord
from registry.rows import BadRow, Row, read_rows
from registry.sources import expand_sources
from registry.templates import load_template
from trainkit.chat_template import to_jinja
from trainkit.init_plan import END_OF_TEXT, ModelPlan, special_tokens
from trainkit.layout import save_weights
from trainkit.loading import quiet_libraries
from trainkit.preflight import check_swappable

log = logging.getLogger("tunekit")

# Words with the space before them, single digits, runs of other signs: the split that GPT-4's and Qwen's BPE use.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def init_model(folder: Path, data: Sequence[str], plan: ModelPlan, *, seed: int, force: bool) -> dict[str, Any]:
    """Train the tokenizer on ``data``, draw the weights, write the folder whole or not at all.

    Raises ``UsageError`` where the folder holds something and ``force`` is not given.
    """
    check_swappable(folder)
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise UsageError(
            "the folder is not empty", where=str(folder), mend="Choose another, or add --force to replace it."
        )
    for file in expand_sources(data):
        if Path(file).resolve().is_relative_to(folder.resolve()):
            raise UsageError(
                f"the rows to read lie in it ({file}), and it would be replaced as a whole",
                where=str(folder),
                mend="Choose another folder for the model.",
            )
    if folder.is_dir() and any(folder.iterdir()) and not manifest_path(folder).is_file():
        raise UsageError(
            f"{manifest_path(folder).name} is not beside it, so this is no model that init or export made",
            where=str(folder),
            mend="Choose another folder; --force replaces only such models.",
        )
    quiet_libraries()
    ledger = Ledger()
    tokenizer = _train_tokenizer(data, plan, ledger)
    for reason, count in ledger.rejected.most_common(5):
        log.warning("%d rows are not read: %s", count, reason)
    model = _draw_model(plan, tokenizer, seed)
    numbers = {"parameters": sum(p.numel() for p in model.parameters()), "vocab_size": len(tokenizer)}
    manifest = build_manifest("trainkit init", {"seed": seed, "plan": repr(plan)}, sorted(ledger.by_file), ledger)
    with atomic_folder(folder) as made:
        save_weights(made, model, tokenizer)
        write_manifest(folder, manifest | numbers)  # before the swap: it is what tells a model of ours
    counts = {key: manifest[key] for key in ("rows_in", "rows_out", "rejected")}
    return {"command": "init", "outputs": [str(folder)], **counts, **numbers, "manifest": str(manifest_path(folder))}


def _texts(data: Sequence[str], ledger: Ledger) -> Iterator[str]:
    """Every text of every row: a record's turns where the row is one, else all strings in it."""
    for row in read_rows(data):
        ledger.read(row.file)
        if isinstance(row, BadRow):
            ledger.rejected[row.reason] += 1
            continue
        try:
            texts = _texts_of(row)
        except RowFault as fault:
            ledger.rejected[str(fault)] += 1
            continue
        ledger.rows_out += 1
        yield from texts


def _texts_of(row: Row) -> list[str]:
    layout = detect(row.data)
    if layout is not None:
        record = READERS[layout.formatting](row.data, layout)
        if isinstance(record, TextRecord):
            return [record.text]
        turns = (
            (*record.prompt, record.chosen, record.rejected)
            if isinstance(record, PreferenceRecord)
            else record.messages
        )
        return [record.system, *(turn.content for turn in turns)]
    return [value for value in row.data.values() if isinstance(value, str)]


def _train_tokenizer(data: Sequence[str], plan: ModelPlan, ledger: Ledger) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    template = load_template(plan.template)
    special, eos, bos = special_tokens(template)
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(WORDS), behavior="isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=plan.vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_texts(data, ledger), trainer)
    if backend.get_vocab_size() < plan.vocab_size:
        log.info("the rows give %d tokens, fewer than the %d asked for", backend.get_vocab_size(), plan.vocab_size)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=eos, pad_token=END_OF_TEXT, bos_token=bos, model_max_length=plan.max_length
    )
    tokenizer.chat_template = to_jinja(template)
    return tokenizer


def _draw_model(plan: ModelPlan, tokenizer: Any, seed: int) -> Any:
    from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

    config = {"qwen2": Qwen2Config, "llama": LlamaConfig}[plan.arch](
        vocab_size=-(-len(tokenizer) // 8) * 8,
        hidden_size=plan.hidden_size,
        intermediate_size=plan.intermediate_size,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.heads,
        num_key_value_heads=plan.heads,
        max_position_embeddings=plan.max_length,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config)
