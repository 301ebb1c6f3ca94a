"""Options that several commands share, spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Src = Annotated[
    list[str],
    typer.Argument(
        help="Files, folders, globs, addresses (hf:// ms:// s3:// gs:// https://), or - for JSONL on stdin.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors on stderr.")]
Map = Annotated[
    list[str] | None, typer.Option("--map", help="FIELD=COLUMN: which column plays which part. Repeatable.")
]
Fill = Annotated[
    list[str] | None, typer.Option("--fill", help="NAME=VALUE: what to put for {{NAME}} in the rows. Repeatable.")
]
ShardRows = Annotated[
    int | None,
    typer.Option(
        "--shard-rows", min=1, help="Rows to a file, for -o part-{:05d}.jsonl and the like.", show_default=False
    ),
]
Rejects = Annotated[
    Path | None, typer.Option("--rejects", help="Where rejected rows go. By default beside the output.")
]
Workers = Annotated[
    int, typer.Option("--workers", min=0, help="Processes that look at rows; 0 is one a core, up to 8, for much.")
]
