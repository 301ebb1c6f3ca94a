"""The command line of `datakit stats`: its options, the one call, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datakit.commands.common import Json, Quiet
from registry.command import set_up_logging


def stats(
    model: Annotated[Path, typer.Option("--model", help="Model or tokenizer folder.", show_default=False)],
    src: Annotated[list[str] | None, typer.Argument(help="Files, folders or globs.", show_default=False)] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Instead of SRC: names from dataset_info.json, with commas.")
    ] = None,
    dataset_dir: Annotated[Path, typer.Option("--dataset-dir", help="Folder of dataset_info.json.")] = Path("data"),
    template: Annotated[
        str | None, typer.Option("--template", help="Chat template. [default: the tokenizer's own]")
    ] = None,
    stage: Annotated[str, typer.Option("--stage", help="pt, sft, rm or dpo.")] = "sft",
    target: Annotated[
        float, typer.Option("--target", min=0.0, max=1.0, help="Share of rows that the suggestion keeps whole.")
    ] = 0.99,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the lengths into this PNG.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write the report as an HTML page.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure token lengths with the encoder that training uses, and suggest a cutoff_len with its reason."""
    set_up_logging(quiet)
    from datakit.stats import measure_rows
    from datakit.stats.report import check_targets, finish_stats

    check_targets(plot, html)
    measured = measure_rows(
        src or [], model=model, dataset=dataset, dataset_dir=dataset_dir, template=template, stage=stage, target=target
    )
    finish_stats(measured, plot=plot, html=html, json=json, quiet=quiet)
