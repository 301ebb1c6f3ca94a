"""The command line of `datakit validate`: its options, the one call, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datakit.commands.common import Json, Map, Quiet, Rejects, Src
from registry.command import set_up_logging


def validate(
    src: Src,
    format_: Annotated[
        str, typer.Option("--format", help="auto, alpaca, sharegpt, openai, text, preference or kto.")
    ] = "auto",
    stage: Annotated[
        str | None, typer.Option("--stage", help="Also check that the rows suit pt, sft, rm, dpo or kto.")
    ] = None,
    map_: Map = None,
    clean: Annotated[Path | None, typer.Option("--clean", help="Write the rows without a fault to this file.")] = None,
    rejects: Rejects = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check every row; tell row, field and reason of each fault. Exits with 1 where there is any."""
    set_up_logging(quiet)
    from datakit.options import pairs
    from datakit.summary import finish
    from datakit.validate import validate_rows
    from datakit.validate.report import show_report

    outcome = validate_rows(
        src, format_name=format_, stage=stage, mapping=pairs(map_, "--map"), clean=clean, rejects=rejects
    )
    if not json:
        show_report(outcome)
    finish(outcome, json=json, quiet=quiet)
