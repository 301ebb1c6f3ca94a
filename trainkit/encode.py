"""Tokenise without training: the examples of a run as JSON lines, or its encoded datasets as a folder."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from registry.atomic import atomic_file
from registry.errors import UsageError
from registry.examples import AnyExample, Example, PreferenceExample
from registry.manifest import build_manifest, write_manifest
from registry.packed import join_block
from registry.tokenizer import Tokenizer
from trainkit.config import RunConfig
from trainkit.data.account import Examples
from trainkit.data.blocks import blocks_in_order, is_packed
from trainkit.data.source import open_examples
from trainkit.data.tokenized import may_fill, save_tokenized
from trainkit.data.views import View
from trainkit.hub import model_folder
from trainkit.preflight import check_places, check_writable


def encode_to_file(config: RunConfig, out: Path, *, prompts: bool = False) -> dict[str, Any]:
    """Write one JSON object an example to a .jsonl file: ``input_ids``, ``attention_mask`` and, but for pt, ``labels``;
    preference pairs as ``chosen_*`` and ``rejected_*``. A name without an ending is a folder for ``tokenized_path``.

    ``prompts`` makes what prediction sees: ``input_ids`` are each conversation up to its last answer, ``labels`` that
    answer. Raises ``UsageError`` for other endings, and for a place that is taken by something else.
    """
    if prompts and config.stage != "sft":
        raise UsageError(f"prompts are made of conversations, and stage {config.stage} has none", where="--prompts")
    if out.suffix not in ("", ".jsonl") and not out.is_dir():
        raise UsageError(
            f'"{out.suffix}" is not written',
            where=str(out),
            mend="A name that ends in .jsonl is written as JSON lines, one without an ending as an encoded folder.",
        )
    check_writable(out.parent)
    if out.suffix == ".jsonl" and not out.is_dir():
        examples, tokenizer = load(config, prompts=prompts)
        _check_is_no_source(examples, out)
        with atomic_file(out) as handle:
            for columns in rows_to_write(config, examples.train, tokenizer, prompts=prompts):
                handle.write(orjson.dumps(columns) + b"\n")
    else:
        if out.is_file():
            raise UsageError("this is a file, a folder is needed", where=str(out))
        if not may_fill(out):
            raise UsageError("the folder holds something else", where=str(out), mend="Name a new one.")
        examples, tokenizer = load(config, prompts=prompts)
        save_tokenized(out, examples.sets)
    examples.write_rejects(out.with_name(out.name + ".rejects.jsonl"))
    files = sorted(examples.ledger.by_file)
    manifest = build_manifest("trainkit encode", config.flat(), files, examples.ledger, [out] if out.is_file() else [])
    sequences_cut, tokens_cut = examples.cut()
    facts = {
        "examples": len(examples.train),
        "tokens": int(examples.train.lengths.sum(dtype="int64")),
        "trained_tokens": int(examples.train.trained.sum(dtype="int64")),
        "sequences_cut": sequences_cut,
        "tokens_cut": tokens_cut,
        "dropped_tokens": examples.dropped_tokens,
        "special_texts": examples.special_texts,
    }
    write_manifest(out, manifest | facts)
    told = {key: manifest[key] for key in ("rows_in", "rows_out", "rejected")}
    return told | facts | {"outputs": [str(out)]}


def _check_is_no_source(examples: Examples, out: Path) -> None:
    if any(Path(file).resolve() == out.resolve() for file in examples.ledger.by_file):
        raise UsageError(
            "this file is one of the datasets, and writing it would destroy them",
            where=str(out),
            mend="Choose another name for the output.",
        )


def load(config: RunConfig, *, prompts: bool = False) -> tuple[Examples, Tokenizer]:
    """The examples of a config (or with ``prompts`` those of prediction), without loading its model."""
    if not config.data.dataset:
        raise UsageError('"dataset" is missing', where=config.source)
    entries = check_places(config, weights=False)
    return open_examples(config, entries, model_folder(config.model), for_prediction=prompts)


def rows_to_write(
    config: RunConfig, view: View, tokenizer: Tokenizer, *, prompts: bool = False
) -> Iterator[dict[str, Any]]:
    """Each example of a run, or each block of a packed one, as its columns."""
    if prompts or not is_packed(config):
        return (columns_of(view[number], config.stage) for number in range(len(view)))
    pad_id, data = tokenizer.pad_id or 0, config.data
    return (
        block_columns([view[n] for n in block], data.cutoff_len, pad_id, strict=config.strict, neat=data.neat_packing)  # type: ignore[misc]
        for block in blocks_in_order(config, view)
    )


def columns_of(example: AnyExample, stage: str) -> dict[str, Any]:
    """One example as the columns that LLaMA-Factory's processors give for its stage, with ``weights`` where answers do
    not count alike."""
    if isinstance(example, Example):
        mask = {"attention_mask": [1] * len(example.ids)}
        labels = {} if stage == "pt" else {"labels": list(example.labels)}
        weights = {} if example.weights is None else {"weights": list(example.weights)}
        return {"input_ids": list(example.ids), **labels, **mask, **weights}
    if isinstance(example, PreferenceExample):
        sides = {"chosen_": example.chosen, "rejected_": example.rejected}
        return {
            f"{name}{part}": list(value)
            for name, side in sides.items()
            for part, value in (("input_ids", side.ids), ("labels", side.labels))
        }
    own, kl = example.own, example.kl
    return {
        "input_ids": list(own.ids), "attention_mask": [1] * len(own.ids), "labels": list(own.labels),
        "kl_input_ids": list(kl.ids), "kl_labels": list(kl.labels), "kto_tags": example.desirable,
    }  # fmt: skip


def block_columns(
    examples: list[Example], block_len: int, pad_id: int, *, strict: bool, neat: bool
) -> dict[str, list[int]]:
    """One packed block as LLaMA-Factory's columns: ``attention_mask`` numbers the examples from 1, 0 for padding; in
    their plain packing (``strict`` without ``neat``) it is 1 everywhere."""
    block = join_block(examples, block_len, pad_id, strict=strict)
    mask = block.segments if neat or not strict else array("i", [1] * block_len)
    columns = {"input_ids": block.ids, "labels": block.labels, "position_ids": block.positions, "attention_mask": mask}
    if block.weights is not None:
        columns |= {"weights": block.weights}  # type: ignore[dict-item]
    return {name: list(values) for name, values in columns.items()}
