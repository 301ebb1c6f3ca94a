"""The command line of `datakit run`: its options, the one call, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datakit.commands.common import Json, Quiet
from registry.command import print_json, set_up_logging


def run(
    pipeline: Annotated[Path, typer.Argument(help="A pipeline file (YAML).", show_default=False)],
    from_step: Annotated[
        str | None, typer.Option("--from", help="Run this step and all after it, even if nothing changed.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which steps would run, and why.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the steps of a pipeline, skipping those whose inputs have not changed."""
    set_up_logging(quiet)
    from datakit.pipeline import run_pipeline

    result = run_pipeline(pipeline, from_step=from_step, dry_run=dry_run, show=not json, quiet=quiet)
    if json:
        print_json(result.as_json())
    raise typer.Exit(result.exit_code)
