"""The command line of `datakit register`: its options, the one call, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datakit.commands.common import Json, Quiet
from registry.command import set_up_logging


def register(
    src: Annotated[str, typer.Argument(help="The file, folder or address that holds the rows.", show_default=False)],
    name: Annotated[str, typer.Option("--name", help="The name it gets in dataset_info.json.", show_default=False)],
    dataset_dir: Annotated[Path, typer.Option("--dataset-dir", help="Folder of dataset_info.json.")] = Path("data"),
    columns: Annotated[
        list[str] | None, typer.Option("--columns", help="PART=COLUMN, e.g. prompt=question. Repeatable.")
    ] = None,
    tags: Annotated[list[str] | None, typer.Option("--tags", help="TAG=NAME, e.g. role_tag=role. Repeatable.")] = None,
    formatting: Annotated[
        str | None, typer.Option("--formatting", help="alpaca, sharegpt or openai. By default as the rows look.")
    ] = None,
    ranking: Annotated[bool, typer.Option("--ranking", help="The rows are preference pairs.")] = False,
    model: Annotated[
        Path | None, typer.Option("--model", help="Tokenizer folder: also prove that rows encode with it.")
    ] = None,
    template: Annotated[
        str | None, typer.Option("--template", help="Chat template to encode with. By default the tokenizer's own.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an entry of the same name.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Enter a file into dataset_info.json, once its own rows were read and encoded by that entry."""
    set_up_logging(quiet)
    from datakit.options import pairs
    from datakit.register import register_dataset
    from datakit.summary import finish

    outcome = register_dataset(
        src, name, dataset_dir, columns=pairs(columns, "--columns"), tags=pairs(tags, "--tags"),
        formatting=formatting, ranking=ranking, model=model, template=template, replace=replace,
    )  # fmt: skip
    finish(outcome, json=json, quiet=quiet)
