"""The command line of `datakit store`: its four verbs, their options, the one call of each, and what is printed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from datakit.commands.common import Json, Quiet
from registry.command import print_json, set_up_logging

store = typer.Typer(
    name="store",
    help="Look into a store of answers, take answers out of it, or clear it up.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Store = Annotated[Path, typer.Argument(help="The store, OUT.store.sqlite by default.", show_default=False)]
Model = Annotated[str | None, typer.Option("--model", help="Only answers of this model.", show_default=False)]


@store.command("ls", no_args_is_help=True)
def ls(
    path: Store,
    model: Model = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Only answers since 2026-03-01, or of the last 30d, 12h, 2w.")
    ] = None,
    newest: Annotated[int, typer.Option("-n", min=0, help="How many of the newest are listed.")] = 20,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Totals by model, provider and how answers ended, then the newest ones."""
    set_up_logging(quiet)
    from datakit.augment.store.choose import Choice, moment
    from datakit.augment.store.listing import list_store
    from datakit.augment.store.show import listing_as_text
    from datakit.summary import say

    choice = Choice(model=model, since=moment(since, "--since") if since else None)
    found = list_store(path, choice, newest)
    if json:
        print_json(found.as_json())
    else:
        say(listing_as_text(found))


@store.command("show", no_args_is_help=True)
def show(
    path: Store,
    key: Annotated[str, typer.Argument(help="The key of an answer, or its first digits.", show_default=False)],
    raw: Annotated[bool, typer.Option("--raw", help="Print the body as the server sent it, and nothing else.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """One answer: what was asked, with what settings, what came, and what it took."""
    set_up_logging(quiet)
    from datakit.augment.store.listing import find
    from datakit.augment.store.show import answer_as_json, answer_as_text
    from datakit.summary import say

    stored = find(path, key)
    if raw:
        sys.stdout.buffer.write(stored.body)
        sys.stdout.buffer.flush()
    elif json:
        print_json(answer_as_json(stored))
    else:
        say(answer_as_text(stored))


@store.command("export", no_args_is_help=True)
def export(
    path: Store,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="FILE.sqlite, FILE.jsonl or FILE.jsonl.gz.", show_default=False)
    ],
    keys: Annotated[
        list[Path] | None,
        typer.Option("--keys", help="Only answers named in FILE: rows made of them, or a .txt of keys. Repeatable."),
    ] = None,
    salvage: Annotated[bool, typer.Option("--salvage", help="Read past what is damaged.")] = False,
    note: Annotated[
        str | None, typer.Option("--note", help="A line about where the answers come from, kept in FILE.sqlite.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write answers into a new store (to ship with a data set, or after damage) or as JSON lines."""
    set_up_logging(quiet)
    from datakit.augment.store.export import export_store
    from datakit.augment.store.keys import keys_named_in
    from datakit.augment.store.show import exported_as_text
    from datakit.summary import say

    outcome = export_store(path, out, keys=keys_named_in(keys) if keys else None, salvage=salvage, note=note)
    if json:
        print_json(outcome.as_json())
    elif not quiet:
        say(exported_as_text(outcome))


@store.command("prune", no_args_is_help=True)
def prune(
    path: Store,
    older_than: Annotated[
        str | None, typer.Option("--older-than", help="What came before the last 30d, 12h, 2w, or before 2026-03-01.")
    ] = None,
    model: Model = None,
    refused: Annotated[bool, typer.Option("--refused", help="Requests that a server refused for good.")] = False,
    not_in: Annotated[
        list[Path] | None,
        typer.Option("--not-in", help="What is not named in FILE: rows that were made, their manifest. Repeatable."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it. Without this, it is only counted.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove answers that all of the options hold for, and give their room back."""
    set_up_logging(quiet)
    from datakit.augment.store.choose import Choice, moment
    from datakit.augment.store.keys import keys_named_in
    from datakit.augment.store.prune import prune_store
    from datakit.augment.store.show import pruned_as_text
    from datakit.summary import say
    from registry.errors import UsageError

    if older_than is None and model is None and not refused and not not_in:
        raise UsageError("nothing says what may go", mend="Add --older-than, --model, --refused or --not-in.")
    before = moment(older_than, "--older-than") if older_than else None
    choice = Choice(model=model, before=before, refused=refused)
    pruned = prune_store(path, choice, keep=keys_named_in(not_in) if not_in else None, really=yes)
    if json:
        print_json(pruned.as_json())
    elif not quiet:
        say(pruned_as_text(pruned))
