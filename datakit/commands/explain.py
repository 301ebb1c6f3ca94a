"""The command line of `datakit explain`: its options, the one call, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datakit.commands.common import Json, Quiet
from registry.command import print_json, set_up_logging


def explain(
    file: Annotated[str, typer.Argument(help="The file, also one of rejects.", show_default=False)],
    row: Annotated[int, typer.Option("--row", min=1, help="Number of the row, from 1.", show_default=False)],
    model: Annotated[
        Path | None, typer.Option("--model", help="Tokenizer folder: count tokens; its own template is the default.")
    ] = None,
    template: Annotated[str | None, typer.Option("--template", help="Chat template to render with.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tell where a row came from, step by step back to its source, what was done to it, and how it encodes."""
    set_up_logging(quiet)
    from datakit.explain import explain_row
    from datakit.explain.show import as_json, as_text
    from datakit.summary import in_colour, say

    found = explain_row(file, row, model=model, template=template)
    if json:
        print_json(as_json(found))
    else:
        say(as_text(found, in_colour()))
