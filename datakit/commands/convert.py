"""The command line of `datakit convert`: its options, the one call, and what is printed."""

from __future__ import annotations

from typing import Annotated

import typer

from datakit.commands.common import Fill, Json, Map, Quiet, Rejects, Src
from registry.command import set_up_logging
from registry.errors import UsageError


def convert(
    src: Src,
    out: Annotated[
        str,
        typer.Option(
            "-o",
            "--out",
            help="File to write; its ending decides: .jsonl .json .csv .tsv .parquet. - is stdout (JSONL).",
        ),
    ],
    from_: Annotated[
        str, typer.Option("--from", help="Format of the rows: auto, alpaca, sharegpt, openai, preference, kto, text.")
    ] = "auto",
    to: Annotated[
        str, typer.Option("--to", help="Format to write: keep (columns as they are), alpaca, sharegpt, openai.")
    ] = "keep",
    map_: Map = None,
    fill: Fill = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Stop after this many rows.")] = None,
    rejects: Rejects = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 where any row was rejected.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn rows of any container and format into another; rejected rows go to a file of their own."""
    set_up_logging(quiet)
    from datakit.convert import convert_rows
    from datakit.options import pairs
    from datakit.summary import finish

    if json and out == "-":
        raise UsageError("--json and the rows cannot both go to stdout", where="-o -", mend="Give the rows a file.")

    finish(
        convert_rows(
            src, out, from_format=from_, to_format=to, mapping=pairs(map_, "--map"), fill=pairs(fill, "--fill"),
            limit=limit, rejects=rejects, strict=strict,
        ),
        json=json, quiet=quiet,
    )  # fmt: skip
