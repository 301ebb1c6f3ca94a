"""The command line of `datakit validate`: its options, the one call, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datakit.commands.common import Json, Map, Quiet, Rejects, Src, Workers
from registry.command import set_up_logging

_CODES = "CODE or family (SC), several with commas. Repeatable."
Codes = list[str] | None


def validate(
    src: Src,
    format_: Annotated[
        str, typer.Option("--format", help="auto, alpaca, sharegpt, openai, text, preference or kto.")
    ] = "auto",
    stage: Annotated[
        str | None, typer.Option("--stage", help="Also check that the rows suit pt, sft, rm, dpo or kto.")
    ] = None,
    map_: Map = None,
    text: Annotated[
        bool, typer.Option("--text/--no-text", help="Look into the texts, or at the structure of rows only.")
    ] = True,
    deny: Annotated[Codes, typer.Option("--deny", help=f"Take these faults as errors: {_CODES}")] = None,
    warn: Annotated[Codes, typer.Option("--warn", help=f"Take these faults as warnings: {_CODES}")] = None,
    allow: Annotated[Codes, typer.Option("--allow", help=f"Pass over these faults: {_CODES}")] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be meant one way only; needs --clean.")] = False,
    fix_text: Annotated[
        bool, typer.Option("--fix-text", help="Mend texts that were decoded wrongly (ftfy); needs --clean.")
    ] = False,
    clean: Annotated[str | None, typer.Option("--clean", help="Write the rows without an error to this file.")] = None,
    rejects: Rejects = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write the report as an HTML page.")] = None,
    workers: Workers = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check every row; tell the code, the place and the mend of each fault. Exits with 1 where any row has an error."""
    set_up_logging(quiet)
    from datakit.options import pairs
    from datakit.summary import finish
    from datakit.validate import validate_rows
    from datakit.validate.report import show_report

    outcome = validate_rows(
        src, format_name=format_, stage=stage, mapping=pairs(map_, "--map"), clean=clean, rejects=rejects, text=text,
        deny=deny or (), warn=warn or (), allow=allow or (), fix=fix, fix_text=fix_text, html=html, workers=workers,
    )  # fmt: skip
    if not json:
        show_report(outcome)
    finish(outcome, json=json, quiet=quiet)
