"""The command line of `datakit split`: its options, the one call, and what is printed."""

from __future__ import annotations

from typing import Annotated

import typer

from datakit.commands.common import Json, Quiet, Src
from registry.command import set_up_logging


def split(
    src: Src,
    out_dir: Annotated[
        str, typer.Option("--out-dir", help="Folder for train, val and test files.", show_default=False)
    ],
    val: Annotated[
        str, typer.Option("--val", help="Validation rows: a share (0.1, 10%) or a count (200).", show_default=False)
    ],
    test: Annotated[str, typer.Option("--test", help="Test rows, likewise.")] = "0",
    by: Annotated[
        str | None, typer.Option("--by", help="Field whose equal values stay on one side, e.g. customer_id.")
    ] = None,
    stratify: Annotated[
        str | None,
        typer.Option("--stratify", help="Field whose values get the same share on each side, e.g. language."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed gives another split.")] = 42,
    ext: Annotated[
        str, typer.Option("--ext", help="Ending of the files: .jsonl .json .csv .tsv .parquet, or .jsonl.gz …")
    ] = ".jsonl",
    rejects: Annotated[
        str | None,
        typer.Option("--rejects", help="Where rejected rows go. By default split.rejects.jsonl in the folder."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 where any row was rejected.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Split rows into train, validation and test files; groups, and rows made from one seed row, stay together."""
    set_up_logging(quiet)
    from datakit.split import split_rows
    from datakit.summary import finish

    outcome = split_rows(
        src, out_dir, val=val, test=test, by=by, stratify=stratify, seed=seed, ext=ext, rejects=rejects, strict=strict
    )
    finish(outcome, json=json, quiet=quiet)
