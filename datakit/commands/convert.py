"""The command line of `datakit convert`: its options, the one call, and what is printed."""

from __future__ import annotations

from typing import Annotated

import typer

from datakit.commands.common import Fill, Json, Map, Quiet, Rejects, ShardRows, Src
from registry.command import set_up_logging
from registry.errors import UsageError

_SHAPE = (
    "Columns of preference and kto rows: auto (as the source's), alpaca (side by side), sharegpt, openai (messages)."
)
_WHERE = "Take the rows that match, e.g. \"length(output) > 20 and lang = 'en'\"; names are the source's columns."
_LIMIT = "Stop after this many rows (that match --where). With --shuffle: a random sample of this many."


def convert(
    src: Src,
    out: Annotated[
        str,
        typer.Option(
            "-o",
            "--out",
            help="File to write; its ending decides: .jsonl .json .csv .tsv, also .gz or .zst, and .parquet. - is stdout (JSONL).",
        ),
    ],
    from_: Annotated[
        str, typer.Option("--from", help="Format of the rows: auto, alpaca, sharegpt, openai, preference, kto, text.")
    ] = "auto",
    to: Annotated[
        str,
        typer.Option(
            "--to", help="Format to write: keep (columns as they are), alpaca, sharegpt, openai, preference, kto, text."
        ),
    ] = "keep",
    shape: Annotated[str, typer.Option("--shape", help=_SHAPE)] = "auto",
    map_: Map = None,
    fill: Fill = None,
    where: Annotated[str | None, typer.Option("--where", help=_WHERE, show_default=False)] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help=_LIMIT)] = None,
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Write the rows in a random order.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed gives another order.")] = 42,
    shard_rows: ShardRows = None,
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
            src, out, from_format=from_, to_format=to, shape=shape, mapping=pairs(map_, "--map"),
            fill=pairs(fill, "--fill"), where=where, limit=limit, shuffle=shuffle, seed=seed,
            shard_rows=shard_rows, rejects=rejects, strict=strict,
        ),
        json=json, quiet=quiet,
    )  # fmt: skip
