"""The datakit command: each verb parses its options, calls one function, and prints what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from registry.command import print_json, run_app, set_up_logging
from registry.errors import UsageError

app = typer.Typer(
    name="datakit",
    help="From raw rows to clean, measured, registered training data.",
    epilog="--debug, anywhere on the line, shows the traceback behind an error.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

Src = Annotated[list[str], typer.Argument(help="Files, folders, globs, or - for JSONL on stdin.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors on stderr.")]
Map = Annotated[
    list[str] | None, typer.Option("--map", help="FIELD=COLUMN: which column plays which part. Repeatable.")
]
Fill = Annotated[
    list[str] | None, typer.Option("--fill", help="NAME=VALUE: what to put for {{NAME}} in the rows. Repeatable.")
]
Rejects = Annotated[Path | None, typer.Option("--rejects", help="Where rejected rows go. [default: beside the output]")]


@app.command(no_args_is_help=True)
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


@app.command(no_args_is_help=True)
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


@app.command(no_args_is_help=True)
def stats(
    model: Annotated[Path, typer.Option("--model", help="Model or tokenizer folder.", show_default=False)],
    src: Annotated[list[str] | None, typer.Argument(help="Files, folders or globs.", show_default=False)] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Instead of SRC: names from dataset_info.json, with commas.")
    ] = None,
    dataset_dir: Annotated[Path, typer.Option("--dataset-dir", help="Folder of dataset_info.json.")] = Path("data"),
    template: Annotated[
        str | None, typer.Option("--template", help="Chat template. [default: the tokenizer's own]")
    ] = None,
    stage: Annotated[str, typer.Option("--stage", help="pt, sft, rm or dpo.")] = "sft",
    target: Annotated[
        float, typer.Option("--target", min=0.0, max=1.0, help="Share of rows that the suggestion keeps whole.")
    ] = 0.99,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the lengths into this PNG.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write the report as an HTML page.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure token lengths with the encoder that training uses, and suggest a cutoff_len with its reason."""
    set_up_logging(quiet)
    from datakit.stats import measure_rows
    from datakit.stats.report import check_targets, finish_stats

    check_targets(plot, html)
    measured = measure_rows(
        src or [], model=model, dataset=dataset, dataset_dir=dataset_dir, template=template, stage=stage, target=target
    )
    finish_stats(measured, plot=plot, html=html, json=json, quiet=quiet)


@app.command(no_args_is_help=True)
def register(
    src: Annotated[Path, typer.Argument(help="The file or folder that holds the rows.", show_default=False)],
    name: Annotated[str, typer.Option("--name", help="The name it gets in dataset_info.json.", show_default=False)],
    dataset_dir: Annotated[Path, typer.Option("--dataset-dir", help="Folder of dataset_info.json.")] = Path("data"),
    columns: Annotated[
        list[str] | None, typer.Option("--columns", help="PART=COLUMN, e.g. prompt=question. Repeatable.")
    ] = None,
    tags: Annotated[list[str] | None, typer.Option("--tags", help="TAG=NAME, e.g. role_tag=role. Repeatable.")] = None,
    formatting: Annotated[
        str | None, typer.Option("--formatting", help="alpaca, sharegpt or openai. [default: as the rows look]")
    ] = None,
    ranking: Annotated[bool, typer.Option("--ranking", help="The rows are preference pairs.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an entry of the same name.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Enter a file into dataset_info.json, checked against its own rows first."""
    set_up_logging(quiet)
    from datakit.options import pairs
    from datakit.register import register_dataset
    from datakit.summary import finish

    outcome = register_dataset(
        src, name, dataset_dir, columns=pairs(columns, "--columns"), tags=pairs(tags, "--tags"),
        formatting=formatting, ranking=ranking, replace=replace,
    )  # fmt: skip
    finish(outcome, json=json, quiet=quiet)


@app.command(no_args_is_help=True)
def preview(
    src: Annotated[str, typer.Argument(help="A file, or a name from dataset_info.json.", show_default=False)],
    n: Annotated[int, typer.Option("-n", min=1, help="How many rows.")] = 3,
    model: Annotated[
        Path | None, typer.Option("--model", help="Tokenizer folder: count tokens; its own template is the default.")
    ] = None,
    template: Annotated[str | None, typer.Option("--template", help="Chat template to render with.")] = None,
    dataset_dir: Annotated[Path, typer.Option("--dataset-dir", help="Folder of dataset_info.json.")] = Path("data"),
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show rows as they are rendered for training, with what is trained in colour."""
    set_up_logging(quiet)
    from datakit.preview import show_rows

    show_rows(src, n=n, model=model, template=template, dataset_dir=dataset_dir, json=json)


@app.command(no_args_is_help=True)
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


def main() -> None:
    """The console script."""
    run_app(app, "datakit")


if __name__ == "__main__":
    main()
