"""The command line of `datakit stats`: its options, the one call, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datakit.commands.common import Json, Quiet
from registry.command import set_up_logging


def stats(
    model: Annotated[Path, typer.Option("--model", help="Model or tokenizer folder.", show_default=False)],
    src: Annotated[
        list[str] | None, typer.Argument(help="Files, folders, globs, or - for JSONL on stdin.", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Instead of SRC: names from dataset_info.json, with commas.")
    ] = None,
    dataset_dir: Annotated[Path, typer.Option("--dataset-dir", help="Folder of dataset_info.json.")] = Path("data"),
    template: Annotated[
        str | None, typer.Option("--template", help="Chat template. [default: the tokenizer's own]")
    ] = None,
    stage: Annotated[str, typer.Option("--stage", help="pt, sft, rm, dpo or kto.")] = "sft",
    target: Annotated[
        float, typer.Option("--target", min=0.0, max=1.0, help="Share of rows that the suggestion keeps whole.")
    ] = 0.99,
    sample: Annotated[
        int | None, typer.Option("--sample", min=1, help="Measure N rows drawn at random. [default: all]")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the draw.")] = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Rows a batch, for padding and steps.")] = 8,
    gradient_accumulation: Annotated[int, typer.Option("--gradient-accumulation", min=1, help="Batches a step.")] = 1,
    packing: Annotated[
        bool | None,
        typer.Option("--packing/--no-packing", help="Count steps of packed blocks. [default: for pt only]"),
    ] = None,
    backend: Annotated[
        str, typer.Option("--backend", help="What makes the ids: auto, tokenizers, gigatoken or fastokens.")
    ] = "auto",
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the lengths into this PNG.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write the report as an HTML page.")] = None,
    write_config: Annotated[
        Path | None, typer.Option("--write-config", help="Set cutoff_len in this YAML to the suggestion.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure token lengths with the encoder that training uses, and suggest a cutoff_len with its reason."""
    set_up_logging(quiet)
    from datakit.stats import Steps, measure_rows
    from datakit.stats.report import Targets, check_targets, finish_stats

    targets = Targets(plot, html, write_config)
    check_targets(targets)
    steps = Steps(batch_size, gradient_accumulation, packing)
    measured = measure_rows(
        src or [], model=model, dataset=dataset, dataset_dir=dataset_dir, template=template, stage=stage, target=target,
        backend=backend, sample=sample, seed=seed, steps=steps,
    )  # fmt: skip
    options = {
        "src": src, "dataset": dataset, "dataset_dir": str(dataset_dir), "model": str(model), "template": template,
        "stage": stage, "target": target, "sample": sample, "seed": seed, "batch_size": batch_size,
        "gradient_accumulation": gradient_accumulation, "packing": packing, "backend": backend,
    }  # fmt: skip
    finish_stats(measured, targets, options=options, json=json, quiet=quiet)
