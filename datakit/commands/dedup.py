"""The command line of `datakit dedup`: its options, the one call, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datakit.commands.common import Json, Quiet, Rejects, Src, Workers
from registry.command import set_up_logging
from registry.errors import UsageError

_ON = "Fields that are compared, e.g. instruction,output; dots reach in; question, answer or text of a known format."
_NEAR = "Also drop rows this similar to one that stays: Jaccard similarity of their n-grams, e.g. 0.8."
_AGAINST = "Also drop rows that are in (with --near: or near) this file. Repeatable."
_DECONTAMINATE = "Drop rows that share n-grams with this evaluation set. Repeatable."


def dedup(
    src: Src,
    out: Annotated[
        str,
        typer.Option(
            "-o",
            "--out",
            help="File to write; its ending decides: .jsonl .json .csv .tsv, also .gz or .zst, and .parquet. - is stdout (JSONL).",
        ),
    ],
    on: Annotated[str | None, typer.Option("--on", help=f"{_ON} [default: the whole row]", show_default=False)] = None,
    exact: Annotated[bool, typer.Option("--exact/--no-exact", help="Drop rows that equal an earlier one.")] = True,
    raw: Annotated[
        bool, typer.Option("--raw", "--no-normalize", help="Compare texts byte for byte, not in their normal form.")
    ] = False,
    near: Annotated[float | None, typer.Option("--near", help=_NEAR, show_default=False)] = None,
    shingle: Annotated[int, typer.Option("--shingle", help="Tokens in an n-gram of --near.")] = 3,
    against: Annotated[list[str] | None, typer.Option("--against", help=_AGAINST, show_default=False)] = None,
    decontaminate: Annotated[
        list[str] | None, typer.Option("--decontaminate", help=_DECONTAMINATE, show_default=False)
    ] = None,
    ngram: Annotated[int, typer.Option("--ngram", help="Tokens in an n-gram of --decontaminate.")] = 13,
    overlap: Annotated[
        str,
        typer.Option(
            "--overlap", help="How much is an overlap: any n-gram, or a share (0.5) of those of an evaluation row."
        ),
    ] = "any",
    drops: Annotated[
        Path | None, typer.Option("--drops", help="Where dropped rows go. [default: among the rejects]")
    ] = None,
    rejects: Rejects = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 where any row was rejected.")] = False,
    workers: Workers = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Drop duplicate and near-duplicate rows, rows of other files, and rows of an evaluation set; the first one stays."""
    set_up_logging(quiet)
    from datakit.dedup import dedup_rows
    from datakit.summary import finish

    if json and out == "-":
        raise UsageError("--json and the rows cannot both go to stdout", where="-o -", mend="Give the rows a file.")
    outcome = dedup_rows(
        src, out, on=on, exact=exact, raw=raw, near=near, shingle=shingle, against=against or (),
        decontaminate=decontaminate or (), ngram=ngram, overlap=overlap, drops=drops, rejects=rejects, strict=strict,
        workers=workers,
    )  # fmt: skip
    finish(outcome, json=json, quiet=quiet)
