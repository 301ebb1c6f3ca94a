"""The command line of `datakit preview`: its options, the one call, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datakit.commands.common import Json, Quiet
from registry.command import set_up_logging


def preview(
    src: Annotated[str, typer.Argument(help="A file, or a name from dataset_info.json.", show_default=False)],
    n: Annotated[int, typer.Option("-n", min=1, help="How many rows.")] = 3,
    model: Annotated[
        Path | None, typer.Option("--model", help="Tokenizer folder: count tokens; its own template is the default.")
    ] = None,
    template: Annotated[str | None, typer.Option("--template", help="Chat template to render with.")] = None,
    dataset_dir: Annotated[Path, typer.Option("--dataset-dir", help="Folder of dataset_info.json.")] = Path("data"),
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show rows as they are rendered for training, with what is trained in colour."""
    set_up_logging(quiet)
    from datakit.preview import show_rows

    show_rows(src, n=n, model=model, template=template, dataset_dir=dataset_dir, json=json)
