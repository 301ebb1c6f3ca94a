"""Tokenise without training: the examples of a run as JSON lines, or decoded and coloured on the console."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson

from registry.atomic import atomic_file
from registry.encode import IGNORE, Example
from registry.errors import UsageError
from registry.manifest import build_manifest, write_manifest
from registry.tokenizer import Tokenizer
from trainkit.config import RunConfig
from trainkit.data.source import AnyExample, Examples, open_examples
from trainkit.hub import model_folder
from trainkit.preflight import check_places, check_writable


def encode_to_file(config: RunConfig, out: Path) -> dict[str, Any]:
    """Write one JSON object an example: ``input_ids``, ``attention_mask`` and, but for pt, ``labels``; preference
    pairs as ``chosen_*`` and ``rejected_*``. Raises ``UsageError`` for what is no .jsonl."""
    if out.suffix != ".jsonl":
        raise UsageError(
            f'"{out.suffix or out}" is not written yet',
            where=str(out),
            mend="Give the output a name that ends in .jsonl",
        )
    if out.is_dir():
        raise UsageError("this is a folder, a file is needed", where=str(out))
    check_writable(out.parent)
    examples, _ = load(config)
    if any(Path(file).resolve() == out.resolve() for file in examples.ledger.by_file):
        raise UsageError(
            "this file is one of the datasets, and writing it would destroy them",
            where=str(out),
            mend="Choose another name for the output.",
        )
    with atomic_file(out) as handle:
        for example in examples.train:
            handle.write(orjson.dumps(columns_of(example, config.stage)) + b"\n")
    examples.write_rejects(out.with_name(out.name + ".rejects.jsonl"))
    manifest = build_manifest("trainkit encode", config.flat(), sorted(examples.ledger.by_file), examples.ledger, [out])
    sequences_cut, tokens_cut = examples.cut()
    facts = {"examples": len(examples.train), "sequences_cut": sequences_cut, "tokens_cut": tokens_cut}
    manifest |= facts | {"dropped_tokens": examples.dropped_tokens}
    write_manifest(out, manifest)
    return {key: manifest[key] for key in ("rows_in", "rows_out", "rejected", *facts, "dropped_tokens")} | {
        "outputs": [str(out)]
    }


def load(config: RunConfig) -> tuple[Examples, Tokenizer]:
    """The examples of a config, without loading its model."""
    if not config.data.dataset:
        raise UsageError('"dataset" is missing', where=config.source)
    entries = check_places(config, weights=False)
    return open_examples(
        config.stage, config.data, entries, model_folder(config.model), seed=config.loop.seed, strict=config.strict
    )


def columns_of(example: AnyExample, stage: str) -> dict[str, list[int]]:
    """One example as the columns that LLaMA-Factory's processors give for its stage."""
    if isinstance(example, Example):
        mask = {"attention_mask": [1] * len(example.ids)}
        return {"input_ids": list(example.ids), **({} if stage == "pt" else {"labels": list(example.labels)}), **mask}
    sides = {"chosen": example.chosen, "rejected": example.rejected}
    return {
        f"{name}_{part}": list(value)
        for name, side in sides.items()
        for part, value in (("input_ids", side.ids), ("labels", side.labels))
    }


def show_examples(config: RunConfig, count: int) -> None:
    """Print the first ``count`` examples as text, trained tokens in green (between [[ and ]] off a terminal)."""
    examples, tokenizer = load(config)
    colour = sys.stdout.isatty()
    for number, example in enumerate(examples.train[:count], start=1):
        for name, side in (
            (("", example),)
            if isinstance(example, Example)
            else (("chosen", example.chosen), ("rejected", example.rejected))
        ):
            print(f"─── example {number} {name} · {len(side.ids)} tokens, {side.num_trained} trained")
            print(coloured(side, tokenizer, colour=colour))


def coloured(example: Example, tokenizer: Tokenizer, *, colour: bool) -> str:
    """The decoded text of an example with its trained spans marked."""
    before, after = ("\x1b[32m", "\x1b[0m") if colour else ("[[", "]]")
    parts: list[str] = []
    start = 0
    for end in range(1, len(example.ids) + 1):
        if end == len(example.ids) or (example.labels[end] == IGNORE) != (example.labels[start] == IGNORE):
            text = tokenizer.decode(example.ids[start:end])
            parts.append(text if example.labels[start] == IGNORE else f"{before}{text}{after}")
            start = end
    return "".join(parts)
